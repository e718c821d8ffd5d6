"""Which loop runs, and that it may be called from anywhere.

Calls come from threads and forked children, from read-only places, and with huge arrays.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import softmax_lab as sl
from softmax_lab import LossSpec, _dispatch

from .limits import HANG

pytest.importorskip("numba", reason="without Numba there is only the reference")

PACKAGE = Path(sl.__file__).parent
MOST = _dispatch.kernels().short.MOST_CLASSES  # type: ignore[union-attr]
MOST_IN_SINGLES = _dispatch.kernels().short.MOST_IN_SINGLES  # type: ignore[union-attr]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Record (path, loop) of every compiled call."""
    calls: list[tuple[str, str]] = []

    real, held = _dispatch.run, _dispatch.Loop.__call__

    def run(path: Any, name: str, *arguments: Any) -> None:
        calls.append((path, name))
        real(path, name, *arguments)

    def call(loop: Any, *arguments: Any) -> None:
        calls.append((loop.path, loop.name))
        held(loop, *arguments)

    monkeypatch.setattr(_dispatch, "run", run)
    monkeypatch.setattr(_dispatch.Loop, "__call__", call)
    return calls


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [1, MOST, MOST + 1, MOST_IN_SINGLES, MOST_IN_SINGLES + 1, 5000])
def test_the_number_of_classes_chooses_the_loop(taken: list[tuple[str, str]], dtype: str, k: int) -> None:
    z = np.zeros((3, k), dtype)
    sl.softmax(z)
    sl.log_softmax(z.T, axis=0)  # strided
    sl.logsumexp(z)
    sl.cross_entropy_grad(z, [0, -100, 0])
    plain = "short" if k <= (MOST_IN_SINGLES if dtype == "float32" else MOST) else "long"
    assert taken == [(plain, loop) for loop in ("softmax", "log_softmax", "logsumexp", "cross_entropy")]
    taken.clear()
    sl.softmax(z, temperature=2.0)
    sl.logsumexp(z, where=np.arange(k) < 1)
    sl.cross_entropy(z, [0, 0, 0], LossSpec(smoothing=0.1, class_weight=np.ones(k), gamma=1.0, z_loss=0.1))
    path = "short" if k <= MOST else "long"
    assert taken == [(path, loop) for loop in ("softmax", "logsumexp", "cross_entropy")]


@pytest.mark.parametrize(
    ("k", "path"), [(1, "short_products"), (MOST, "short_products"), (MOST + 1, "products")]
)
def test_products_have_loops_of_their_own(taken: list[tuple[str, str]], k: int, path: str) -> None:
    z, p = np.zeros((3, k)), np.full((3, k), 1 / k)
    sl.cross_entropy_hvp(z, [0, -100, 0], z, LossSpec(smoothing=0.1, gamma=1.0, z_loss=0.1, softcap=5.0))
    sl.cross_entropy_hvp(z, p, z)
    sl.softmax_jvp(p, z)
    assert taken == [
        (path, "cross_entropy_hvp"),
        (path, "cross_entropy_hvp"),
        ("products", "softmax_product"),
    ]


def test_nothing_is_left_to_the_reference(taken: list[tuple[str, str]]) -> None:
    z = np.zeros((3, 4))
    sl.softmax(z, where=np.ones(4, bool))
    sl.log_softmax(z, temperature=2.0)
    sl.softmax(z.astype(np.float16))
    sl.logsumexp(z.T, axis=0, where=np.ones((4, 3), bool))
    sl.cross_entropy(z, np.full((3, 4), 0.25))
    sl.cross_entropy(
        z, [0, 1, 2], LossSpec(bias=[1.0, 2.0, 3.0, 4.0], softcap=3.0), where=[True, True, True, False]
    )
    assert taken == [
        ("short", loop)
        for loop in ("softmax", "log_softmax", "softmax", "logsumexp", "cross_entropy", "cross_entropy")
    ]


SIZES = [(64, 3), (5000, 10), (300, MOST), (300, MOST + 1), (200, 1000), (9, 40_000)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "k"), SIZES)
def test_no_bit_depends_on_threads_or_batch(n: int, k: int, dtype: str) -> None:
    z = np.random.default_rng(n).normal(0, 4, (n, k)).astype(dtype)
    y, t = np.arange(n) % k, np.cos(z)
    before = sl.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 7):
            sl.set_num_threads(threads)
            results.append(
                (
                    *sl.cross_entropy_grad(z, y, reduction="none"),
                    sl.log_softmax(z),
                    sl.softmax(z),
                    sl.logsumexp(z),
                    sl.cross_entropy_hvp(z, y, t, reduction="none"),
                )
            )
    finally:
        sl.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
    order = np.random.default_rng(1).permutation(n)[: n // 2 + 1]
    value, gradient = sl.cross_entropy_grad(z[order], y[order], reduction="none")
    np.testing.assert_array_equal(value, results[0][0][order])
    np.testing.assert_array_equal(gradient, results[0][1][order])
    product = sl.cross_entropy_hvp(z[order], y[order], t[order], reduction="none")
    np.testing.assert_array_equal(product, results[0][5][order])


def test_many_python_threads_at_once() -> None:
    z = np.random.default_rng(0).normal(size=(4000, 100)).astype(np.float32)
    expected = sl.softmax(z)
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(lambda _: sl.softmax(z), range(40)):
            np.testing.assert_array_equal(result, expected)


FORKS = """
import multiprocessing, numpy as np, softmax_lab as sl

z = np.random.default_rng(0).normal(size=(4000, 100)).astype(np.float32)
y = np.zeros(4000, int)
sl.set_num_threads(2)

def child(queue):
    queue.put(float(sl.cross_entropy(z, y)))

expected = float(sl.cross_entropy(z, y))  # the pool's threads run now; a child has none of them
context = multiprocessing.get_context("fork")
queue = context.Queue()
children = [context.Process(target=child, args=(queue,)) for _ in range(2)]
for process in children:
    process.start()
assert [queue.get() for _ in children] == [expected] * 2
for process in children:
    process.join()
    assert process.exitcode == 0
print("right")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_children_work() -> None:
    """As DataLoader workers do: the parent's pool is in use, its threads do not exist in the child.

    In a process of its own: other tests have loaded frameworks here that cannot be forked.
    """
    result = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, check=True, timeout=HANG
    )
    assert result.stdout.strip() == "right"


@pytest.mark.parametrize("loop", ["short", "long"])
def test_offsets_beyond_two_to_the_31(loop: str) -> None:
    """The last rows of an array of more than 2^31 entries; untouched pages of it take no memory."""
    loops = _dispatch.kernels()
    assert loops is not None
    k = 32 if loop == "short" else 4096
    n = (1 << 31) // k + 24
    z = np.empty(n * k, np.float32)
    z[-16 * k :] = np.random.default_rng(0).normal(size=16 * k)
    expected = sl.softmax(z[-16 * k :].reshape(16, k))
    getattr(loops, loop).softmax(z, z, False, None, k, n - 16, n)
    np.testing.assert_array_equal(z[-16 * k :].reshape(16, k), expected)


def test_no_memory_beyond_the_outputs() -> None:
    z = np.random.default_rng(0).normal(size=(2000, 1000)).astype(np.float32)
    y, out = np.zeros(2000, np.int64), np.empty_like(z)
    sl.cross_entropy_grad(z, y, out=out)  # compiled, pool started
    tracemalloc.start()
    try:
        sl.cross_entropy_grad(z, y, out=out)
        sl.softmax(z, out=z)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 0.05 * z.nbytes


@pytest.mark.parametrize("k", [10, 1000])
def test_out_may_be_the_logits(k: int) -> None:
    for dtype in (np.float32, np.float64):
        z = np.random.default_rng(k).normal(size=(500, k)).astype(dtype)
        y = np.arange(500) % k
        _, expected = sl.cross_entropy_grad(z, y)
        logs, probs = sl.log_softmax(z), sl.softmax(z)
        products = sl.cross_entropy_hvp(z, y, np.cos(z))
        a, b, c, d, t = z.copy(), z.copy(), z.copy(), z.copy(), np.cos(z)
        sl.cross_entropy_grad(a, y, out=a)
        sl.softmax(b, out=b)
        sl.log_softmax(c, out=c)
        sl.cross_entropy_hvp(d, y, t, out=d)
        sl.cross_entropy_hvp(z, y, t, out=t)
        np.testing.assert_array_equal(a, expected)
        np.testing.assert_array_equal(b, probs)
        np.testing.assert_array_equal(c, logs)
        np.testing.assert_array_equal(d, products)
        np.testing.assert_array_equal(t, products)


CODE = "import softmax_lab as sl; print(round(float(sl.softmax([1.0, 0.0])[0]), 3))"
RIGHT = "0.731"


def _copy_of_the_package(folder: Path) -> Path:
    return Path(
        shutil.copytree(
            PACKAGE, folder / "softmax_lab", ignore=shutil.ignore_patterns("__pycache__", "audit", "data")
        )
    )


def _run(folder: Path, **environment: str) -> str:
    """Run the code in a process that imports the package from ``folder``."""
    variables = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run(
        [sys.executable, "-c", CODE], cwd=folder, env=variables, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_read_only_install_works(tmp_path: Path) -> None:
    """No folder for compiled code: files stand where the folders would be made, which stops even root."""
    package = _copy_of_the_package(tmp_path)
    (package / "_kernels" / "__pycache__").write_text("not a folder", encoding="utf-8")
    blocked = tmp_path / "file"
    blocked.write_text("not a folder", encoding="utf-8")
    assert (
        _run(tmp_path, HOME=str(blocked), XDG_CACHE_HOME=str(blocked / "cache"), IPYTHONDIR=str(blocked))
        == RIGHT
    )


def test_an_edit_in_a_helper_is_seen(tmp_path: Path) -> None:
    """Numba's own cache looks at one file.

    Here the helper's edit must reach the compiled loop of another file.
    """
    helper = _copy_of_the_package(tmp_path) / "_kernels" / "exponential.py"
    cache = str(tmp_path / "cache")
    assert _run(tmp_path, NUMBA_CACHE_DIR=cache) == RIGHT
    assert list(Path(cache).rglob("*.nbc")), "nothing was cached"
    text = helper.read_text(encoding="utf-8")
    line = "e = scale_exponent(splat(1.0) + fma(p * r, r, r), begun.t)"
    assert text.count(line) == 1
    helper.write_text(text.replace(line, "e = splat(0.25)"), encoding="utf-8")
    assert _run(tmp_path, NUMBA_CACHE_DIR=cache) == "0.5"
    helper.write_text(text, encoding="utf-8")
    assert _run(tmp_path, NUMBA_CACHE_DIR=cache) == RIGHT


EVERYTHING = """
import sys, warnings, numpy as np, softmax_lab as sl
from softmax_lab import _dispatch

{first}
z, y, gate = np.array([[40.0, 0.0], [1.0, 2.0]]), [0, 1], sl.LossSpec(class_weight=[1.0, 2.0], gate=1.0)

def results():
    yield from (sl.softmax(z), sl.log_softmax(z), sl.logsumexp(z), sl.softmax_jvp([0.5, 0.5], [1.0, 0.0]))
    for spec in (sl.LossSpec(), gate):
        yield from (sl.cross_entropy(z, y, spec), *sl.cross_entropy_grad(z, y, spec))
        yield sl.cross_entropy_hvp(z, y, np.eye(2), spec)
        own = z.copy()
        yield sl.cross_entropy_grad(own, y, spec, out=own)[1]
    yield sl.softmax(np.zeros((4, 1000, 40), np.float32), axis=1)  # in pieces, and by several threads

sl.set_num_threads(3)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    found = list(results())
print(_dispatch.choose(2), len(seen), *(str(each.message) for each in seen))
_dispatch.kernels = lambda: None
for ours, reference in zip(found, results(), strict=True):
    np.testing.assert_array_equal(ours, reference)
"""

WITHOUT_A_COMPILER = {
    "imports": "import numba\ndel numba.njit",
    "types": """
from numba.core import dispatcher, errors
def fail(*_): raise errors.TypingError("no such type\\nand more")
dispatcher.Dispatcher.compile = fail
""",
    "lowering": """
from numba.core import codegen
def fail(*_): raise RuntimeError("LLVM knows no such processor")
codegen.CodeLibrary.finalize = codegen.CPUCodeLibrary.finalize = fail
""",
}


def _everything(tmp_path: Path, first: str, **environment: str) -> str:
    """Run every loop in a process of its own, without code cached before.

    The results must be the reference's.
    """
    variables = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), **environment}
    code = EVERYTHING.format(first=first)
    return subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_numpy_works_where_numba_is_told_not_to_compile(tmp_path: Path) -> None:
    assert _everything(tmp_path, "", NUMBA_DISABLE_JIT="1") == "reference 0"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("imports", "AttributeError: module 'numba' has no attribute 'njit'"),
        ("types", "TypingError: no such type"),
        ("lowering", "RuntimeError: LLVM knows no such processor"),
    ],
)
def test_numpy_works_with_one_warning_where_the_loops_do_not_compile(
    tmp_path: Path, broken: str, reason: str
) -> None:
    warning = f"softmax_lab's compiled loops fail here, and NumPy takes over, slower ({reason})"
    assert _everything(tmp_path, WITHOUT_A_COMPILER[broken]) == f"reference 1 {warning}"


def test_an_error_of_a_call_is_not_taken_for_a_failed_compilation() -> None:
    def loop(start: int, stop: int) -> None:
        if stop > start:
            raise MemoryError("in the loop")

    with pytest.raises(MemoryError, match="in the loop"):
        _dispatch._call(loop, 0, 8)
    assert _dispatch.choose(2) == "short"


def test_a_full_disk_costs_the_cache_alone(tmp_path: Path) -> None:
    first = """
from numba.core import caching
def full(*_): raise OSError(28, "No space left on device")
caching.IndexDataCacheFile.save = full
"""
    code = f"import warnings; warnings.simplefilter('error')\n{first}\n{CODE}"
    variables = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
    ).stdout
    assert found.strip() == RIGHT
