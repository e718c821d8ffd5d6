"""Every adapter answers like this package on easy rows, and leaves the process as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import softmax_lab as sl
from softmax_lab.audit import adapters
from softmax_lab.audit.adapters import ADAPTERS, FRAMEWORKS, MissingFramework, make
from softmax_lab.audit.subject import FUNCTIONS, KEYWORDS, LOG_LOSSES, PLAIN, Subject

from ...limits import HANG
from ...ulps import dtype_of
from .made import LABELS, ROWS, TOLERANCE, close, made, rows

DTYPES = tuple(TOLERANCE)
LOSSES = ("cross_entropy", "cross_entropy_grad")
LOG = set(LOG_LOSSES)
MAPS = ("softmax", "log_softmax")
GRADIENT = ("cross_entropy_grad",)
#: adapter -> the functions that it lacks, and what each keyword reaches
OFFERS: dict[str, tuple[set[str], dict[str, tuple[str, ...]]]] = {
    "softmax_lab": (
        set(),
        {
            "where": PLAIN,
            "label_smoothing": LOSSES,
            "class_weight": LOSSES,
            "axis": MAPS,
            "upstream": GRADIENT,
        },
    ),
    "numpy": (LOG, {"axis": MAPS, "upstream": GRADIENT}),
    "scipy": ({"cross_entropy_grad", *LOG}, {"axis": MAPS}),
    "torch": (
        LOG,
        {"label_smoothing": LOSSES, "class_weight": LOSSES, "axis": MAPS, "upstream": GRADIENT},
    ),
    "torch.compile": (LOG, {"upstream": GRADIENT}),
    "tensorflow": (LOG, {"axis": MAPS, "upstream": GRADIENT}),
    "tf.function": (LOG, {"upstream": GRADIENT}),
    "jax": (LOG, {"where": MAPS, "axis": MAPS, "upstream": GRADIENT}),
    "jax.jit": (LOG, {"where": MAPS, "axis": MAPS, "upstream": GRADIENT}),
}


def taking(keyword: str, function: str) -> list[str]:
    """Return the adapters that take a keyword in a function."""
    return [name for name, adapter in ADAPTERS.items() if keyword in adapter.keywords(function)]


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_is_offered_is_what_the_adapter_has(name: str) -> None:
    lacks, takes = OFFERS[name]
    adapter = ADAPTERS[name]
    assert adapter.functions() == tuple(function for function in FUNCTIONS if function not in lacks)
    for function in adapter.functions():
        expected = tuple(keyword for keyword in KEYWORDS if function in takes.get(keyword, ()))
        assert adapter.keywords(function) == expected
        assert all(Subject(adapter, function).accepts(keyword) for keyword in expected)
    assert adapter.dtypes == DTYPES


def test_the_registry_names_every_adapter_once_and_in_the_order_of_tables() -> None:
    assert list(ADAPTERS) == list(OFFERS)
    assert [framework.module for framework in FRAMEWORKS] == [
        "softmax_lab",
        "numpy",
        "scipy",
        "torch",
        "tensorflow",
        "jax",
    ]


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> Any:
    return made(request.param)


@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities(adapter: Any, dtype: str) -> None:
    z = rows(dtype)
    close(adapter.softmax(z), sl.softmax(z.astype(float)), dtype)
    close(adapter.log_softmax(z), sl.log_softmax(z.astype(float)), dtype)


@pytest.mark.parametrize("name", taking("axis", "softmax"))
@pytest.mark.parametrize("axis", [0, 1])
def test_the_axis_reaches_the_framework(name: str, axis: int) -> None:
    z = np.stack([ROWS.T, 2 * ROWS.T])
    for function in ("softmax", "log_softmax"):
        expected = getattr(sl, function)(z, axis=axis)
        close(getattr(made(name), function)(z, axis=axis), expected, "float64")


@pytest.mark.parametrize("name", taking("upstream", "cross_entropy_grad"))
@pytest.mark.parametrize("dtype", DTYPES)
def test_upstream_gradients_reach_the_framework(name: str, dtype: str) -> None:
    z, upstream = rows(dtype), np.array([1.0, 0.0, 2.0, 0.5, 0.25])
    _, gradient = sl.cross_entropy_grad(z.astype(float), LABELS, reduction="none")
    computed = made(name).cross_entropy_grad(z, LABELS, upstream=upstream.astype(z.dtype))
    close(computed, gradient * upstream[:, None], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_of_labels(adapter: Any, dtype: str) -> None:
    z = rows(dtype)
    value, gradient = sl.cross_entropy_grad(z.astype(float), LABELS, reduction="none")
    close(adapter.cross_entropy(z, LABELS), value, dtype)
    if hasattr(adapter, "cross_entropy_grad"):
        close(adapter.cross_entropy_grad(z, LABELS), gradient, dtype)


@pytest.mark.parametrize("name", [name for name in ADAPTERS if "log_cross_entropy" not in OFFERS[name][0]])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_logarithm_of_the_loss_and_its_gradient(name: str, dtype: str) -> None:
    z = rows(dtype)
    value, gradient = sl.cross_entropy_grad(z.astype(float), LABELS, reduction="none")
    close(made(name).log_cross_entropy(z, LABELS), np.log(value), dtype)
    close(made(name).log_cross_entropy_grad(z, LABELS), gradient / value[:, None], dtype)


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


@pytest.mark.parametrize("name", taking("label_smoothing", "cross_entropy_grad"))
def test_smoothing_reaches_the_loss(name: str) -> None:
    value, gradient = sl.cross_entropy_grad(ROWS, LABELS, sl.LossSpec(smoothing=0.3), reduction="none")
    close(made(name).cross_entropy(ROWS, LABELS, label_smoothing=0.3), value, "float64")
    close(made(name).cross_entropy_grad(ROWS, LABELS, label_smoothing=0.3), gradient, "float64")


@pytest.mark.parametrize("name", taking("class_weight", "cross_entropy_grad"))
def test_class_weights_reach_the_loss(name: str) -> None:
    weight = np.array([1.0, 2.0, 0.5, 4.0])
    value, gradient = sl.cross_entropy_grad(ROWS, LABELS, sl.LossSpec(class_weight=weight), reduction="none")
    close(made(name).cross_entropy(ROWS, LABELS, class_weight=weight), value, "float64")
    close(made(name).cross_entropy_grad(ROWS, LABELS, class_weight=weight), gradient, "float64")


@pytest.mark.parametrize("name", taking("where", "softmax"))
def test_masks_reach_the_softmax(name: str) -> None:
    where = ROWS < 1.0
    close(made(name).softmax(ROWS, where=where), sl.softmax(ROWS, where=where), "float64")
    close(made(name).log_softmax(ROWS, where=where), sl.log_softmax(ROWS, where=where), "float64")


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
    """Run a program in the environment of a user who has set nothing."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=HANG)


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = """
import sys
from softmax_lab.audit import adapters
adapters.versions(), [adapters.installed(name) for name in adapters.ADAPTERS]
assert not {"torch", "tensorflow", "jax"} & set(sys.modules)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.parametrize("names", [["torch"], ["tf.function"], ["jax"], ["jax", "tensorflow"]], ids="-".join)
def test_nothing_is_printed(names: list[str]) -> None:
    for name in names:
        made(name)
    code = f"""
import numpy as np
from softmax_lab.audit.adapters import make
adapter = [make(name) for name in {names!r}][-1]
adapter.cross_entropy_grad(np.zeros((2, 3)), np.array([0, 1]))
adapter.softmax(np.zeros((2, 3), np.float16))
try:
    adapter.cross_entropy(np.zeros((2, 3)), np.array([0, 7]))
except Exception:
    pass
"""
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", [name for name, adapter in ADAPTERS.items() if adapter.framework.extra])
def test_a_missing_framework_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    framework = ADAPTERS[name].framework
    for module in {framework.module, framework.part or framework.module}:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingFramework) as raised:
        make(name)
    assert str(raised.value) == (
        f"the audit of {framework.module} needs {framework.module}; "
        f"install it with: pip install 'softmax-lab[{framework.extra}]'"
    )
    assert not adapters.installed(name)


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


def test_a_constructor_that_ends_the_program_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADAPTERS, "torch", lambda: sys.exit(0))
    with pytest.raises(
        adapters.ExitError, match=r"^importing 'torch' raises SystemExit \(0\), which ends the program"
    ):
        make("torch")
