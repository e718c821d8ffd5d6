"""The engines' recipes are pinned, and their programs answer the protocol without this project."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.engines.recipes import ENGINES, PROGRAMS, Engine
from softmax_lab.audit import CHECKS, Command
from tests.limits import HANG

CASE = {check.name: check for check in CHECKS}
SHARED = {"answering.py", "answering.js", "classes.py", "onnx_models.py", "tensors.py"}


def test_every_package_is_pinned_and_every_program_is_asked() -> None:
    for engine in ENGINES.values():
        assert all(re.fullmatch(r"\d[\w.]*", version) for version in engine.pinned.values())
        assert engine.package == re.split("==|(?<=.)@", engine.packages[0])[0]
    programs = {engine.program for engine in ENGINES.values()}
    files = {path.name for path in PROGRAMS.iterdir() if path.is_file()}
    assert programs | SHARED == files
    assert len(ENGINES) >= 18


@pytest.mark.parametrize("name", ENGINES)
def test_a_program_knows_the_modes_that_it_is_asked_for(name: str) -> None:
    engine = ENGINES[name]
    text = (PROGRAMS / engine.program).read_text(encoding="utf-8")
    for arguments in engine.variants.values():
        if arguments[:1] == ("--mode",):
            assert f'"{arguments[1]}"' in text or "backend-${backend}" in text


@pytest.mark.parametrize("path", sorted(PROGRAMS.glob("*.py")), ids=lambda path: path.name)
def test_no_program_imports_this_project(path: Path) -> None:
    """In its environment there is none."""
    imported = [
        name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    ]
    assert not [name for name in imported if name.startswith(("softmax_lab", "experiments", "tests", "."))]


def test_what_is_installed_by_npm_is_known_by_its_program() -> None:
    assert Engine("with_x.js", ("@scope/x@1.0",)).by_npm
    assert Engine("with_x.js", ("@scope/x@1.0",)).pinned == {"@scope/x": "1.0"}
    assert not Engine("with_x.py", ("x==1.0",)).by_npm


# ---- what the programs share ----

PROGRAM = """
import sys
sys.path.insert(0, {programs!r})
import numpy as np
from answering import options, serve

def softmax(z, axis):
    assert z.flags.c_contiguous
    print("an engine's own words")
    if z.shape == (1, 2):
        raise NotImplementedError("two classes")
    if z.shape == (1, 1):
        raise KeyError("one class")
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)

def cross_entropy(z, y):
    return 1.0 * y if y.ndim == 1 else np.full(len(z), 2.0)

serve("mine", {{"softmax": softmax}}, {{"cross_entropy": cross_entropy}},
      dtypes=("float32", "bfloat16"), axis=options("fast").axis)
"""


def asked(*questions: dict[str, Any], arguments: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Ask what the programs share, and return its answers."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(programs=str(PROGRAMS)), *arguments],
        input="".join(f"{json.dumps(question)}\n" for question in questions),
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG,
    )
    return [json.loads(line, parse_constant=pytest.fail) for line in done.stdout.splitlines()]


def about(logits: list[list[Any]], function: str = "softmax", **more: Any) -> dict[str, Any]:
    shape = [len(logits), len(logits[0])]
    return {"function": function, "dtype": "float32", "shape": shape, "logits": logits, **more}


@pytest.mark.parametrize("axis", [-1, 0])
def test_the_answers_of_a_program_by_its_shared_part(axis: int) -> None:
    hello, plain, bad, left_out, error = asked(
        {"hello": 1},
        about([[0, 0, "-inf"], [1, 1, 1]]),
        about([["nan", 0, 1]]),
        about([[0, 0]]),
        about([[0]]),
        arguments=(f"--axis={axis}",),
    )
    functions = ["softmax", "cross_entropy"] if axis == -1 else ["softmax"]
    assert hello == {"name": "mine", "functions": functions, "dtypes": ["float32", "bfloat16"]}
    third = float(np.float32(1) / np.float32(3))
    assert plain == {"result": [[0.5, 0.5, 0.0], [third] * 3]}
    assert bad == {"result": [["nan"] * 3]}
    if axis == -1:
        assert left_out == {"error": "not offered: two classes"}
        assert error == {"error": "KeyError: 'one class'"}


def test_labels_distributions_and_half_types_reach_a_program() -> None:
    pytest.importorskip("ml_dtypes")
    labels, distributions, half = asked(
        about([[0, 1, 2]] * 2, "cross_entropy", target=[2, 1]),
        about([[0, 1, 2]] * 2, "cross_entropy", target=[[0, 0, 1]] * 2),
        about([[0, 0, 0]]) | {"dtype": "bfloat16"},
    )
    assert labels == {"result": [2.0, 1.0]}
    assert distributions == {"result": [2.0, 2.0]}
    assert half == {"result": [[0.333984375] * 3]}


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node on this machine")
@pytest.mark.parametrize("axis", ["-1", "0"])
def test_the_answers_of_a_program_on_node(axis: str, tmp_path: Path) -> None:
    program = tmp_path / "mine.js"
    program.write_text(
        f"""
const {{ serve }} = require({str(PROGRAMS / "answering.js")!r});
serve("mine", {{ softmax: async (z, [n, k], axis) => {{
  console.log("an engine's own words");
  if (n === 1 || k === 1) throw new Error("one class");
  const lines = axis === 0 ? k : n, size = (n * k) / lines;
  const at = (i, j) => (axis === 0 ? j * lines + i : i * size + j);
  const p = new Float32Array(n * k);
  for (let i = 0; i < lines; i++) {{
    let sum = 0;
    for (let j = 0; j < size; j++) sum += Math.exp(z[at(i, j)]);
    for (let j = 0; j < size; j++) p[at(i, j)] = Math.exp(z[at(i, j)]) / sum;
  }}
  return p;
}} }});
""",
        encoding="utf-8",
    )
    with Command(["node", str(program), "--axis", axis], timeout=HANG) as node:
        for case, words in {"tied": "", "-inf": "", "NaN row": "", "one class": "Error: one class"}.items():
            finding = CASE[case].run(node, "softmax", "float32")
            assert finding is not None
            assert words in finding.problem
            assert bool(finding.problem) == bool(words)


# ---- the programs whose engines this project's own environment has ----

HERE = {
    "scikit-learn": "sklearn",
    "keras": "keras",
    "optax": "optax",
    "autograd": "autograd",
    "onnxruntime": "onnxruntime",
}


@pytest.mark.parametrize("name", HERE)
def test_a_program_answers_where_its_engine_is_installed(name: str) -> None:
    if find_spec(HERE[name]) is None or (name == "onnxruntime" and find_spec("onnx") is None):
        pytest.skip(f"{name} is not installed")
    engine = ENGINES[name]
    variant = next(iter(engine.variants.values()))
    with Command([sys.executable, str(PROGRAMS / engine.program), *variant], timeout=HANG) as program:
        findings = [
            CASE["tied"].run(program, function, "float32") for function in ("softmax", "cross_entropy")
        ]
    offered = [finding for finding in findings if finding is not None]
    assert offered
    assert not [finding.problem for finding in offered if finding.problem]


def test_losses_of_torch_are_asked_row_by_row_with_their_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    ml_dtypes = pytest.importorskip("ml_dtypes")
    monkeypatch.syspath_prepend(str(PROGRAMS))
    tensors = importlib.import_module("tensors")
    asked: list[int] = []

    def mean(z: Any, y: Any) -> Any:
        asked.append(len(z))
        return torch.nn.functional.cross_entropy(z, y)

    both = tensors.row_by_row(mean)
    z, y = np.log(np.array([[1, 3], [1, 1]], np.float64)), np.array([0, 1])
    np.testing.assert_allclose(both["cross_entropy"](z, y), np.log([4, 2]), rtol=1e-15)
    np.testing.assert_allclose(both["cross_entropy_grad"](z, y), [[-0.75, 0.75], [0.5, -0.5]], rtol=1e-15)
    assert asked == [1] * 4
    half = np.array([[1.5, -0.25]], ml_dtypes.bfloat16)
    assert tensors.tensor(half).dtype == torch.bfloat16
    assert tensors.array(tensors.tensor(half)).tolist() == [[1.5, -0.25]]
