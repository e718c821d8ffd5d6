"""The public face of ``softmax_lab.torch``."""

from __future__ import annotations

import subprocess
import sys

import softmax_lab.torch as slt


def test_all_is_what_there_is() -> None:
    assert sorted(slt.__all__) == list(slt.__all__)
    for name in slt.__all__:
        assert getattr(slt, name) is not None
    assert callable(slt.cross_entropy)
    assert callable(slt.softmax)


def test_the_package_alone_does_not_load_torch() -> None:
    code = (
        "import sys, softmax_lab; print('torch' in sys.modules); import softmax_lab.torch; "
        "print('numba' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]
