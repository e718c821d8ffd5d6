"""Every optional dependency that is missing is answered in one way.

The answer says what it is for, and the smallest extra that installs it.
"""

from __future__ import annotations

import ast
import importlib
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import softmax_lab as sl
from softmax_lab import _extras
from softmax_lab._extras import EXTRAS, load, missing

ROOT = Path(__file__).resolve().parents[1]
OPTIONAL = {module for brought in EXTRAS.values() for module in brought}
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}


def declared() -> dict[str, set[str]]:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    return {
        extra: {canonicalize_name(Requirement(text).name) for text in texts} for extra, texts in table.items()
    }


def test_the_table_is_that_of_the_project() -> None:
    for extra, modules in EXTRAS.items():
        assert declared()[extra] == {
            canonicalize_name(DISTRIBUTIONS.get(module, module)) for module in modules
        }, extra


def test_every_module_has_an_extra_that_brings_only_it() -> None:
    alone = {modules[0] for modules in EXTRAS.values() if len(modules) == 1}
    assert OPTIONAL - alone == {"torch"}  # which takes bfloat16 tensors to NumPy with ml_dtypes
    assert set(EXTRAS["torch"]) == {"torch", "ml_dtypes"}


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        (("torch",), "install it with: pip install 'softmax-lab[torch]'"),
        (("ml_dtypes",), "install it with: pip install 'softmax-lab[ml-dtypes]'"),
        (("sklearn",), "install it with: pip install 'softmax-lab[scikit-learn]'"),
        (("pandas", "tqdm"), "install them with: pip install 'softmax-lab[audit]'"),
    ],
)
def test_the_smallest_extra_is_named(modules: tuple[str, ...], words: str) -> None:
    assert str(missing("why", *modules)) == f"why; {words}"


def _imported_anew(module: str) -> Callable[[pytest.MonkeyPatch], Any]:
    def call(monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.delitem(sys.modules, module, raising=False)
        return importlib.import_module(module)

    return call


def _images(monkeypatch: pytest.MonkeyPatch) -> Any:
    from softmax_lab.data import cifar

    return list(cifar._images([]))


def _progress(monkeypatch: pytest.MonkeyPatch) -> Any:
    from softmax_lab.data import cifar

    return cifar._bar(1, "reading", True)


def _half_tensor(monkeypatch: pytest.MonkeyPatch) -> Any:
    torch = pytest.importorskip("torch", reason="needs torch")
    import softmax_lab.torch as slt

    return slt.softmax(torch.zeros(2, 3, dtype=torch.bfloat16))


def _monitor(method: str) -> Callable[[pytest.MonkeyPatch], Any]:
    def call(monkeypatch: pytest.MonkeyPatch) -> Any:
        pytest.importorskip("torch", reason="needs torch")
        import softmax_lab.torch as slt

        return getattr(slt.GradientMonitor, method)(object())

    return call


def _audit(**options: Any) -> Callable[[pytest.MonkeyPatch], Any]:
    return lambda monkeypatch: sl.audit.run(["numpy"], functions=["softmax"], **options)


def _coefficients(monkeypatch: pytest.MonkeyPatch) -> Any:
    exponential = pytest.importorskip("softmax_lab._kernels.exponential", reason="needs Numba")
    return exponential.coefficients(6, 1)


#: what is missing -> (who asks for it, what it says)
ANSWERS: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], Any], str]] = {
    "digits": (
        "sklearn.datasets",
        lambda _: sl.data.digits(),
        "the digits come with scikit-learn; {}[scikit-learn]'",
    ),
    "images": ("PIL.Image", _images, "folders of images are read by Pillow; {}[pillow]'"),
    "progress of data": ("tqdm", _progress, "progress, unless progress=False, is shown by tqdm; {}[tqdm]'"),
    "style": (
        "matplotlib",
        lambda _: sl.plotting.use_style(),
        "pictures are drawn by matplotlib; {}[matplotlib]'",
    ),
    "oracle": (
        "mpmath",
        _imported_anew("softmax_lab.exact"),
        "exact values are computed by mpmath; {}[mpmath]'",
    ),
    "coefficients": ("mpmath", _coefficients, "the coefficients are fitted with mpmath; {}[mpmath]'"),
    "torch": (
        "torch",
        _imported_anew("softmax_lab.torch._setup.installed"),
        "softmax_lab.torch needs torch; {}[torch]'",
    ),
    "jax": (
        "jax",
        _imported_anew("softmax_lab.jax._installed"),
        "softmax_lab.jax needs JAX; {}[jax]'",
    ),
    "half tensors": ("ml_dtypes", _half_tensor, "NumPy has bfloat16 from ml_dtypes; {}[ml-dtypes]'"),
    "monitor's frame": ("pandas", _monitor("frame"), "the frame is made by pandas; {}[pandas]'"),
    "monitor's figure": (
        "matplotlib",
        _monitor("figure"),
        "the figure is drawn by matplotlib; {}[matplotlib]'",
    ),
    "audit's table": ("pandas", _audit(), "the audit's table is made by pandas; {}[pandas]'"),
    "audit's progress": (
        "tqdm",
        _audit(),
        "the audit's progress, unless progress=False, is shown by tqdm; {}[tqdm]'",
    ),
    "audit's half type": (
        "ml_dtypes",
        _audit(progress=False),
        "NumPy has bfloat16 from ml_dtypes; {}[ml-dtypes]'",
    ),
    "worst errors": ("pandas", lambda _: sl.audit.worst_errors(), "the table is made by pandas; {}[pandas]'"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_what_is_missing_is_named_with_its_extra(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, call, words = ANSWERS[case]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError) as raised:
        call(monkeypatch)
    assert str(raised.value) == words.format("install it with: pip install 'softmax-lab")


def test_a_package_that_lacks_a_part_says_which(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mpmath.py").write_text("import a_part_that_is_missing\n", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "mpmath", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ModuleNotFoundError, match=r"^the reason, which lacks a_part_that_is_missing; .*\[mpmath\]'$"
    ):
        load("mpmath", "the reason")


def _unanswered(tree: ast.AST, answered: frozenset[str]) -> Iterator[str]:
    """Yield optional modules that are imported where no call of ``load`` for them stands before."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.FunctionDef):
            yield from _unanswered(node, answered | set(filter(None, map(_loaded, ast.walk(node)))))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
            absolute = isinstance(node, ast.Import) or node.level == 0
            yield from ({name.partition(".")[0] for name in names} & OPTIONAL - answered if absolute else ())
        else:
            yield from _unanswered(node, answered)


def _loaded(node: ast.AST) -> str:
    """Return the top-level module that a call of ``load`` names; "" for anything else."""
    if (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) == "load"
        and isinstance(node.args[0], ast.Constant)
    ):
        return str(node.args[0].value).partition(".")[0]
    return ""


@pytest.mark.parametrize(
    "path", sorted((ROOT / "softmax_lab").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_optional_module_is_imported_without_an_answer(path: Path) -> None:
    faces = {name for name in ("torch", "jax") if path.is_relative_to(ROOT / "softmax_lab" / name)}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert list(_unanswered(tree, frozenset(faces))) == []


def test_bfloat16_is_the_type_of_its_name() -> None:
    pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")
    assert (_extras.bfloat16().name, np.zeros(1, _extras.bfloat16()).itemsize) == ("bfloat16", 2)
