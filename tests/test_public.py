"""The public face: explicit exports, a light import, and life without Numba."""

from __future__ import annotations

import subprocess
import sys

import pytest

import softmax_lab as sl

HEAVY = ("torch", "matplotlib", "pandas", "scipy", "sklearn", "mpmath", "numba", "jax", "tensorflow")


def test_all_is_what_there_is() -> None:
    for name in sl.__all__:
        assert getattr(sl, name) is not None
    assert sorted(sl.__all__) == list(sl.__all__)
    assert set(sl.__all__) <= set(dir(sl))
    assert callable(sl.softmax)
    assert callable(sl.cross_entropy)


def test_an_unknown_name_says_so() -> None:
    with pytest.raises(AttributeError, match="sofmax"):
        _ = sl.sofmax


def test_importing_it_loads_nothing_heavy() -> None:
    code = f"import sys, softmax_lab; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert _run(code) == "[]"


def test_it_works_where_numba_cannot_be_had() -> None:
    code = (
        "import sys; sys.modules['numba'] = None; import softmax_lab as sl; print(sl.softmax([0.0, "
        "0.0]).tolist())"
    )
    assert _run(code) == "[0.5, 0.5]"


def _run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
