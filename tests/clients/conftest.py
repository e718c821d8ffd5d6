"""Programs that use the package: each test carries the marker ``clients``.

None of them reaches for the network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false")


#: what these programs warn of is theirs to mend, and a trace warns of every check of an argument; the rest of
#: what is ours is a defect
FILTERS = ("default", "error:::softmax_lab", "ignore::torch.jit.TracerWarning")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses among them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.clients)
            item.add_marker(pytest.mark.filterwarnings(*FILTERS))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Run on one thread, as the models are tiny.

    A second thread is waited for longer than it helps, and without end on a busy machine.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
