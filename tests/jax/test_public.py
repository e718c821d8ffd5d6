"""The public face of ``softmax_lab.jax``."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

pytest.importorskip("jax")
pytest.importorskip("torch")

import softmax_lab.jax as slj
import softmax_lab.torch as slt


def test_all_is_what_there_is() -> None:
    assert sorted(slj.__all__) == list(slj.__all__)
    for name in slj.__all__:
        assert callable(getattr(slj, name))


def test_the_package_alone_does_not_load_jax_and_jax_loads_no_other_framework() -> None:
    code = (
        "import sys, softmax_lab; print('jax' in sys.modules); import softmax_lab.jax; "
        "print('torch' in sys.modules, 'numba' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False", "False"]


#: what one of the faces has alone
ALONE = {
    "cross_entropy": {"where", "validate", "inplace"},
    "linear_cross_entropy": {"precision"},
    "log_cross_entropy": {"where", "validate"},
    "log_softmax": {"where", "logits", "input", "dtype"},
    "softmax": {"where", "logits", "input", "dtype"},
}


@pytest.mark.parametrize("name", ALONE)
def test_arguments_have_the_names_and_the_order_of_torchs(name: str) -> None:
    torchs = ["axis" if each == "dim" else each for each in inspect.signature(getattr(slt, name)).parameters]
    ours = list(inspect.signature(getattr(slj, name)).parameters)
    assert set(ours) ^ set(torchs) == ALONE[name]
    assert [each for each in ours if each in torchs] == [each for each in torchs if each in ours]


def test_every_function_that_both_faces_have_is_compared() -> None:
    assert set(ALONE) == {*slj.__all__} & {*slt.__all__}
