"""Every adapter answers like this package on easy rows, for what its users would call, and leaves the process
as it was.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import softmax_lab as sl
from softmax_lab.audit import adapters
from softmax_lab.audit.adapters import ADAPTERS, MissingFramework, make

from ..limits import HANG
from ..ulps import dtype_of

DTYPES = ("float16", "bfloat16", "float32", "float64")
# a few rounding errors of the type itself: adapters are tested for what they call, the audit for how exact
# that is
TOLERANCE = {"float16": 4e-3, "bfloat16": 4e-2, "float32": 2e-6, "float64": 1e-14}
ROWS = np.random.default_rng(0).normal(0.0, 1.5, (5, 4))
LABELS = np.array([0, 3, 1, 1, 2])
FRAMEWORKS = {"scipy": "scipy.special", "torch": "torch", "tensorflow": "tensorflow", "jax": "jax"}
_made: dict[str, Any] = {}


def made(name: str) -> Any:
    """Return the adapter, once a process (torch.compile takes seconds), or skip where its framework is not
    installed.
    """
    if name not in _made:
        try:
            _made[name] = make(name)
        except MissingFramework as missing:
            pytest.skip(str(missing))
    return _made[name]


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> Any:
    return made(request.param)


def rows(dtype: str) -> NDArray[Any]:
    return ROWS.astype(dtype_of(dtype))


def close(computed: NDArray[Any], expected: NDArray[Any], dtype: str) -> None:
    assert computed.shape == expected.shape
    np.testing.assert_allclose(
        computed.astype(np.float64),
        expected.astype(np.float64),
        rtol=TOLERANCE[dtype],
        atol=TOLERANCE[dtype] / 4,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities(adapter: Any, dtype: str) -> None:
    z = rows(dtype)
    close(adapter.softmax(z), sl.softmax(z.astype(float)), dtype)
    close(adapter.log_softmax(z), sl.log_softmax(z.astype(float)), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_of_labels(adapter: Any, dtype: str) -> None:
    z = rows(dtype)
    value, gradient = sl.cross_entropy_grad(z.astype(float), LABELS, reduction="none")
    close(adapter.cross_entropy(z, LABELS), value, dtype)
    if hasattr(adapter, "cross_entropy_grad"):
        close(adapter.cross_entropy_grad(z, LABELS), gradient, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_of_distributions(adapter: Any, dtype: str) -> None:
    z, target = rows(dtype), sl.softmax(ROWS[::-1].copy()).astype(dtype_of(dtype))
    try:
        computed = adapter.cross_entropy(z, target)
    except NotImplementedError as error:
        pytest.skip(str(error))
    # the rounded target need not sum to one: a textbook gradient p - s is off by as much
    value, gradient = sl.cross_entropy_grad(z.astype(float), target.astype(float), reduction="none")
    close(computed, value, dtype)
    if hasattr(adapter, "cross_entropy_grad"):
        close(adapter.cross_entropy_grad(z, target), gradient, dtype)


@pytest.mark.parametrize("name", ["softmax_lab", "torch", "jax", "tensorflow"])
def test_float64_is_computed_as_float64(name: str) -> None:
    z = np.array([[40.0, 0.0, 1.0]])
    for result in (made(name).softmax(z), made(name).cross_entropy_grad(z, np.array([1]))):
        assert result.dtype == np.float64
    assert made(name).softmax(z)[0, 1] == pytest.approx(np.exp(-40.0), rel=1e-14)


def layouts() -> Iterator[NDArray[Any]]:
    read_only = ROWS.copy()
    read_only.flags.writeable = False
    wide = np.zeros((5, 8))
    wide[:, ::2] = ROWS
    yield from (
        read_only,
        wide[:, ::2],
        ROWS[::-1].copy()[::-1],
        np.asfortranarray(ROWS),
        np.broadcast_to(ROWS[:1], (5, 4)),
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_any_memory_layout(adapter: Any, dtype: str) -> None:
    for z in (layout.astype(dtype_of(dtype), order="K") for layout in layouts()):
        before = z.copy()
        close(adapter.softmax(z), sl.softmax(z.astype(float)), dtype)
        close(
            adapter.cross_entropy(z, LABELS),
            sl.cross_entropy(z.astype(float), LABELS, reduction="none"),
            dtype,
        )
        np.testing.assert_array_equal(z, before)


@pytest.mark.parametrize("shape", [(1, 4), (40, 4), (1, 1), (3, 1)])
def test_sizes_that_compilers_treat_apart(adapter: Any, shape: tuple[int, int]) -> None:
    z = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    y = np.zeros(shape[0], np.int64)
    try:
        close(adapter.softmax(z), sl.softmax(z), "float32")
        close(adapter.cross_entropy(z, y), sl.cross_entropy(z, y, reduction="none"), "float32")
    except NotImplementedError as error:
        assert shape[1] == 1
        pytest.skip(str(error))


@pytest.mark.parametrize("name", ["softmax_lab", "torch"])
def test_smoothing_reaches_the_loss(name: str) -> None:
    value, gradient = sl.cross_entropy_grad(ROWS, LABELS, sl.LossSpec(smoothing=0.3), reduction="none")
    close(made(name).cross_entropy(ROWS, LABELS, label_smoothing=0.3), value, "float64")
    close(made(name).cross_entropy_grad(ROWS, LABELS, label_smoothing=0.3), gradient, "float64")


@pytest.mark.parametrize("name", ["softmax_lab", "torch"])
def test_class_weights_reach_the_loss(name: str) -> None:
    weight = np.array([1.0, 2.0, 0.5, 4.0])
    value, gradient = sl.cross_entropy_grad(ROWS, LABELS, sl.LossSpec(class_weight=weight), reduction="none")
    close(made(name).cross_entropy(ROWS, LABELS, class_weight=weight), value, "float64")
    close(made(name).cross_entropy_grad(ROWS, LABELS, class_weight=weight), gradient, "float64")


@pytest.mark.parametrize("name", ["softmax_lab", "jax", "jax.jit"])
def test_masks_reach_the_softmax(name: str) -> None:
    where = ROWS < 1.0
    close(made(name).softmax(ROWS, where=where), sl.softmax(ROWS, where=where), "float64")
    close(made(name).log_softmax(ROWS, where=where), sl.log_softmax(ROWS, where=where), "float64")


def test_this_package_masks_its_loss() -> None:
    where = np.ones_like(ROWS, dtype=bool)
    where[:, -1] = LABELS == 3
    value, gradient = sl.cross_entropy_grad(ROWS, LABELS, reduction="none", where=where)
    np.testing.assert_array_equal(made("softmax_lab").cross_entropy(ROWS, LABELS, where=where), value)
    np.testing.assert_array_equal(made("softmax_lab").cross_entropy_grad(ROWS, LABELS, where=where), gradient)


def test_the_textbook_is_not_improved() -> None:
    textbook, confident = make("numpy"), np.array([[40.0, 0.0]])
    assert textbook.cross_entropy_grad(confident, np.array([0]))[0, 0] == 0.0
    assert np.isinf(textbook.cross_entropy(np.array([[1e4, 0.0]]), np.array([1]))).all()


def test_the_process_is_left_as_it_was(adapter: Any) -> None:
    def state() -> list[object]:
        found: list[object] = [dict(os.environ), list(sys.path), np.geterr()]
        if torch := sys.modules.get("torch"):
            found += [torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()]
        if jax := sys.modules.get("jax"):
            found += [jax.config.jax_enable_x64]
        return found

    before = state()
    for dtype in ("float32", "float64"):
        adapter.softmax(rows(dtype))
        adapter.cross_entropy(rows(dtype), LABELS)
    assert state() == before


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=HANG
    )


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = """
import sys
from softmax_lab.audit import adapters
adapters.versions(), [adapters.installed(name) for name in adapters.ADAPTERS]
assert not {"torch", "tensorflow", "jax"} & set(sys.modules)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torch", "tf.function", "jax"])
def test_nothing_is_printed(name: str) -> None:
    made(name)
    code = f"""
import numpy as np
from softmax_lab.audit.adapters import make
adapter = make({name!r})
adapter.cross_entropy_grad(np.zeros((2, 3)), np.array([0, 1]))
adapter.softmax(np.zeros((2, 3), np.float16))
try:
    adapter.cross_entropy(np.zeros((2, 3)), np.array([0, 7]))
except Exception:
    pass
"""
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name not in ("softmax_lab", "numpy")])
def test_a_missing_framework_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    top = {"torch.compile": "torch", "tf.function": "tensorflow", "jax.jit": "jax"}.get(name, name)
    for module in {top, FRAMEWORKS[top]}:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        MissingFramework,
        match=rf"^the audit of {top} needs {top}; install it with: pip install 'softmax-lab\[{top}\]'$",
    ):
        make(name)
    assert not adapters.installed(name)


def test_a_framework_that_lacks_a_part_says_which(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import a_part_that_is_missing\n", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        MissingFramework, match=r"needs torch, which lacks a_part_that_is_missing; .*\[torch\]"
    ):
        make("torch")


def test_torch_compile_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")

    def broken(function: Any, **keywords: Any) -> Any:
        def call(*tensors: Any) -> Any:
            raise RuntimeError("no working C++ compiler found\nand more")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(MissingFramework, match=r"needs a C\+\+ compiler\): no working C\+\+ compiler found$"):
        make("torch.compile")


def test_what_a_failed_import_printed_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        with adapters._quiet():
            os.write(2, b"the reason\n")
            raise ImportError

    with pytest.raises(ImportError):
        fails()
    with adapters._quiet():
        os.write(2, b"chatter\n")
    assert capfd.readouterr().err == "the reason\n"


def test_versions_are_those_of_what_is_installed() -> None:
    found = adapters.versions()
    assert found["softmax_lab"] == sl.__version__
    assert found["numpy"] == np.__version__
    for module in ("torch", "tensorflow", "jax", "scipy"):
        assert (module in found) == adapters.installed(module)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(
        ValueError, match=r"one of softmax_lab, numpy, .*, jax\.jit, or module:object.*got 'pytorch'"
    ):
        make("pytorch")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of the user's, entered."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_object_of_ones_own(own: Path) -> None:
    (own / "own_module_a.py").write_text(
        "class space:\n    class inner:\n        value = 3\n", encoding="utf-8"
    )
    before = list(sys.path)
    assert make("own_module_a:space.inner").value == 3
    assert sys.path == before


def test_a_reference_that_leads_nowhere(own: Path) -> None:
    (own / "own_module_b.py").write_text("", encoding="utf-8")
    for reference, message in (
        ("own_module_b:absent", "own_module_b has no 'absent'"),
        ("own_module_absent:x", "no module 'own_module_absent'"),
        ("own_module_b:", "named module:object"),
        (":x", "named module:object"),
    ):
        with pytest.raises(ValueError, match=message):
            make(reference)


def test_what_ones_own_module_fails_to_import_is_not_hidden(own: Path) -> None:
    (own / "own_module_c.py").write_text("import something_not_there\n", encoding="utf-8")
    with pytest.raises(ModuleNotFoundError, match="something_not_there"):
        make("own_module_c:x")


@pytest.mark.parametrize(
    "code",
    ["raise SystemExit(0)", "import sys; sys.exit()", "class Own:\n    pass\nraise BaseException('gone')"],
)
def test_what_ends_the_program_as_it_is_imported_is_an_error(code: str, own: Path) -> None:
    (own / "own_module_d.py").write_text(code, encoding="utf-8")
    with pytest.raises(
        adapters.ExitError, match=r"^importing 'own_module_d:x' raises \w+ \(.*\), which ends the program"
    ):
        make("own_module_d:x")


def test_a_constructor_that_ends_the_program_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADAPTERS, "torch", lambda: sys.exit(0))
    with pytest.raises(
        adapters.ExitError, match=r"^importing 'torch' raises SystemExit \(0\), which ends the program"
    ):
        make("torch")


def test_an_interruption_of_an_import_stays_one(own: Path) -> None:
    (own / "own_module_e.py").write_text("raise KeyboardInterrupt", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        make("own_module_e:x")
