"""Programs that use the package: each test carries the marker ``clients``, and none of them reaches for the network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false")


#: what these programs warn of is theirs to mend, and a trace warns of every check of an argument; the rest of what is ours is a defect
FILTERS = ("default", "error:::softmax_lab", "ignore::torch.jit.TracerWarning")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses among them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.clients)
            item.add_marker(pytest.mark.filterwarnings(*FILTERS))
