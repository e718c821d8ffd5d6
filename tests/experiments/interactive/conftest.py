"""Each of the pictures, made small."""

from __future__ import annotations

from typing import Any

import pytest

from tests.experiments.interactive.small import PICTURES


@pytest.fixture(scope="module", params=list(PICTURES))
def picture(request: pytest.FixtureRequest) -> Any:
    return PICTURES[request.param]()
