"""Export to ONNX: a model with this package's softmax, run by onnxruntime, and as a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import softmax_lab as sl
import softmax_lab.torch as slt

ROWS, K = 5, 7


class Head(torch.nn.Module):
    """A linear layer, and a softmax of its logits."""

    def __init__(self, function: Any, **options: Any) -> None:
        super().__init__()
        self.layer, self.function, self.options = torch.nn.Linear(3, K), function, options

    def forward(self, hidden: Tensor) -> Tensor:
        output: Tensor = self.function(self.layer(hidden), **self.options)
        return output


class Plain(torch.nn.Module):
    """A softmax alone."""

    def __init__(self, function: Any, **options: Any) -> None:
        super().__init__()
        self.function, self.options = function, options

    def forward(self, logits: Tensor) -> Tensor:
        output: Tensor = self.function(logits, **self.options)
        return output


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "softmax": (slt.softmax, {}),
    "softmax, temperature": (slt.softmax, {"temperature": 2.5}),
    "softmax, dim": (slt.softmax, {"dim": 0}),
    "log_softmax": (slt.log_softmax, {}),
    "log_softmax, temperature": (slt.log_softmax, {"temperature": 0.5}),
    "drop-in softmax": (slt.functional.softmax, {"dim": -1}),
    "drop-in log_softmax": (slt.functional.log_softmax, {"dim": -1}),
}


def run(
    model: torch.nn.Module, path: Path, example: Tensor, *inputs: Tensor, rows: bool = False
) -> list[Any]:
    """Export a model, and return what onnxruntime makes of the inputs.

    The number of rows is free where that is asked for.
    """
    pytest.importorskip("onnx", reason="needs onnx")
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    shapes = ({0: torch.export.Dim("rows")},) if rows else None
    torch.onnx.export(model.eval(), (example,), path, dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (given.name for given in session.get_inputs())
    return [session.run(None, {name: value.numpy()})[0] for value in inputs]


def logits(rows: int, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(rows, K, generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("name", CASES)
def test_an_exported_model_gives_its_values_in_onnxruntime(tmp_path: Path, name: str) -> None:
    function, options = CASES[name]
    model = Head(function, **options)
    hidden = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(0))
    (found,) = run(model, tmp_path / "model.onnx", hidden, hidden)
    np.testing.assert_allclose(found, model(hidden).detach().numpy(), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["softmax, temperature", "log_softmax, temperature"])
def test_the_number_of_rows_stays_free(tmp_path: Path, name: str) -> None:
    function, options = CASES[name]
    inputs = [logits(rows) for rows in (1, 4, 9)]
    for found, z in zip(
        run(Plain(function, **options), tmp_path / "model.onnx", logits(ROWS), *inputs, rows=True),
        inputs,
        strict=True,
    ):
        exact = getattr(sl, function.__name__)(z.double().numpy(), temperature=options["temperature"])
        np.testing.assert_allclose(found, exact, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("function", [slt.softmax, slt.log_softmax])
def test_large_logits_stay_finite_in_the_exported_model(tmp_path: Path, function: Any) -> None:
    z = logits(3, scale=1e4)
    (found,) = run(Plain(function, temperature=0.5), tmp_path / "model.onnx", z, z)
    np.testing.assert_allclose(found, function(z, temperature=0.5).numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_a_trace_gives_the_same_values(name: str) -> None:
    function, options = CASES[name]
    traced = torch.jit.trace(Plain(function, **options), logits(ROWS))
    torch.testing.assert_close(traced(logits(9)), function(logits(9), **options), rtol=2e-6, atol=1e-7)
