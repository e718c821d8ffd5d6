"""Torch's adapters: what is shared with it, and what a compiler would not take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from softmax_lab.audit.adapters import MissingFramework, make

from .made import made


def test_torch_compile_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")

    def broken(function: Any, **keywords: Any) -> Any:
        def call(*tensors: Any) -> Any:
            raise RuntimeError("no working C++ compiler found\nand more")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(MissingFramework, match=r"needs a C\+\+ compiler\): no working C\+\+ compiler found$"):
        make("torch.compile")


@pytest.mark.parametrize("array", [np.zeros((2, 3)), np.zeros((2, 3), np.float32)])
def test_memory_is_shared_where_torch_can(array: Any) -> None:
    adapter = made("torch")
    assert np.shares_memory(adapter._tensor(array).numpy(), array)
    backwards = array[::-1]
    assert not np.shares_memory(adapter._tensor(backwards).numpy(), array)


def test_what_torch_would_compile_once_more_is_left_to_the_eager_adapter() -> None:
    adapter = made("torch.compile")
    with pytest.raises(NotImplementedError, match="a single class"):
        adapter.softmax(np.zeros((2, 1)))
    with pytest.raises(NotImplementedError, match="soft targets"):
        adapter.cross_entropy(np.zeros((2, 3)), np.full((2, 3), 1 / 3))


def test_each_type_has_a_compiled_function_with_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    compiled: list[Any] = []

    def note(function: Any, **keywords: Any) -> Any:
        # torch runs a further program eagerly, unless all of the graph must be compiled
        assert keywords == {"dynamic": True, "fullgraph": True}
        compiled.append(function.__code__)
        return function

    monkeypatch.setattr(torch, "compile", note)
    adapter = make("torch.compile")
    for dtype in ("float32", "float64", "float32"):
        adapter.cross_entropy(np.zeros((2, 3), dtype), np.array([0, 1]))
        adapter.softmax(np.zeros((2, 3), dtype))
    assert len(compiled) == 4
    assert len({id(code) for code in compiled}) == 4
