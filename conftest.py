"""What is for torch, JAX or Triton is collected only where that is installed.

The interpreter must be asked for before Triton is first imported, by torch's compiler for example.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("TRITON_INTERPRET", "1")
collect_ignore_glob = (
    [] if find_spec("torch") else ["softmax_lab/torch/*", "tests/clients/*", "tests/torch/*"]
)
if not find_spec("jax"):
    collect_ignore_glob += ["softmax_lab/jax/*", "tests/jax/*"]
if find_spec("triton"):
    import_module("triton")  # after JAX and TensorFlow it ends the process: each brings an LLVM of its own
else:
    collect_ignore_glob += ["softmax_lab/torch/triton/*", "tests/torch/triton/*"]

ROOT = Path(__file__).resolve().parent


def pytest_collect_file(file_path: Path) -> None:
    """Import a module of the package as everyone does, before pytest would.

    pytest's own import puts the module in its package's namespace, over a function of the same name:
    ``softmax_lab.softmax``.
    """
    if file_path.suffix == ".py" and file_path.is_relative_to(ROOT / "softmax_lab"):
        parts = file_path.relative_to(ROOT).with_suffix("").parts
        with suppress(ImportError):  # pytest will say so
            import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
