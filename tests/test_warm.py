"""Compiling ahead, and how much there is to compile: counted in fresh processes, with an empty cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import softmax_lab as sl
from softmax_lab import _dispatch, _warm, cli

pytest.importorskip("numba", reason="without Numba there is nothing to compile")

#: what a program does with few classes and with many, in whatever form it has its arrays
COMMON = """
import numpy as np
import softmax_lab as sl

def common():
    for rows, classes in ((40, 10), (300, 1000)):
        logits, labels = np.zeros((rows, classes), np.float32), np.arange(rows) % classes
        frozen = logits.copy()
        frozen.flags.writeable = False
        for z in (logits, frozen, logits[::2], np.asfortranarray(logits), logits[None], logits[0]):
            sl.softmax(z), sl.log_softmax(z), sl.logsumexp(z)
        sl.softmax(logits.T, axis=0), sl.softmax(logits, out=logits.copy()), sl.softmax(logits[:0])
        for threads in (1, 2):
            sl.set_num_threads(threads)
            sl.softmax(logits)
            for spec in (sl.LossSpec(), sl.losses.focal(), sl.losses.weighted(np.linspace(1, 2, classes))):
                for reduction in ("mean", "sum", "none"):
                    sl.cross_entropy(logits, labels, spec, reduction=reduction)
                    sl.cross_entropy_grad(logits, labels, spec, reduction=reduction)
                sl.cross_entropy_grad(logits, labels.astype(np.uint8), spec, sample_weight=np.ones(rows))
                sl.cross_entropy_grad(logits, labels, spec, ignore_index=3, out=logits.copy())
        sl.cross_entropy_hvp(logits, labels, logits)
"""

#: loop -> how often those calls have it compiled: one more delays first calls by a second
EXPECTED = {
    "long_rows.cross_entropy": 1,
    "long_rows.log_softmax": 1,
    "long_rows.logsumexp": 1,
    "long_rows.softmax": 1,
    "products.cross_entropy_hvp": 1,
    "short_products.cross_entropy_hvp": 1,
    "short_rows.cross_entropy": 1,
    "short_rows.log_softmax": 1,
    "short_rows.logsumexp": 1,
    "short_rows.softmax": 1,
}

REPORT = """
import json
from softmax_lab._kernels.compiler import LOOPS

def report():
    names = {f"{loop.py_func.__module__.split('.')[-1]}.{loop.py_func.__name__}": loop for loop in LOOPS}
    assert len(names) == len(LOOPS)
    return {
        "signatures": {name: len(loop.signatures) for name, loop in names.items() if loop.signatures},
        "compiled": sum(sum(loop.stats.cache_misses.values()) for loop in LOOPS),
        "read": sum(sum(loop.stats.cache_hits.values()) for loop in LOOPS),
    }
"""


def _fresh(code: str, cache: Path) -> Any:
    """Run code in a new process, and return what its last line prints."""
    done = subprocess.run(
        [sys.executable, "-c", COMMON + REPORT + code],
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def warmed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Return a folder that one process has filled by ``warm``, and what that process says of it."""
    cache = tmp_path_factory.mktemp("cache")
    said = _fresh(
        """
first, second = sl.warm(), sl.warm()
before = report()
common()
print(json.dumps([first, second, before, report()]))
""",
        cache,
    )
    return cache, said


@pytest.mark.long
def test_after_warm_common_calls_compile_nothing(warmed: tuple[Path, Any]) -> None:
    first, second, before, after = warmed[1]
    loops = sum(before["signatures"].values())
    assert (first, second) == ([loops, 0], [0, loops])
    assert before == after
    assert before["compiled"] == loops > len(EXPECTED)  # the gradient of a later pass beside the rest


@pytest.mark.long
def test_common_calls_need_these_loops_and_no_others(warmed: tuple[Path, Any]) -> None:
    report = _fresh("common()\nprint(json.dumps(report()))\n", warmed[0])
    assert report["signatures"] == EXPECTED
    assert report["compiled"] == 0  # another process has, by warm
    assert report["read"] == sum(EXPECTED.values())


@pytest.mark.long
def test_a_call_outside_of_them_is_counted(warmed: tuple[Path, Any]) -> None:
    report = _fresh("sl.logsumexp(np.zeros((2, 3)))\nprint(json.dumps(report()))\n", warmed[0])
    assert report["signatures"] == {"short_rows.logsumexp": 1}
    assert report["compiled"] == 1


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where any work is begun."""

    def begun(*_: Any) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(_warm, "_calls", begun)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((sl.LossSpec(),), TypeError, "specs must be several LossSpec, as a list; got LossSpec"),
        ((3,), TypeError, "specs must be several LossSpec, as a list; got int"),
        ((["focal"],), TypeError, "each of specs must be a LossSpec; got str"),
        (([],), ValueError, "specs must hold at least one LossSpec; got none"),
        (([sl.LossSpec()], "float32"), TypeError, "dtypes must be several names of types.*got 'float32'"),
        (([sl.LossSpec()], ["float33"]), ValueError, "each of dtypes must be one of .*got 'float33'"),
        (([sl.LossSpec()], [np.float32]), ValueError, "each of dtypes must be one of"),
        (([sl.LossSpec()], ()), ValueError, "dtypes must name at least one type; got none"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sl.warm(*arguments)


@pytest.mark.usefixtures("no_work")
def test_a_missing_package_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ModuleNotFoundError, match=r"progress is shown by tqdm.*softmax-lab\[tqdm\]"):
        sl.warm(progress=True)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ModuleNotFoundError, match="ml_dtypes"):
        sl.warm(dtypes=["bfloat16"])


@pytest.mark.usefixtures("no_work")
def test_without_loops_there_is_nothing_to_compile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_dispatch, "choose", lambda num_classes, *, product=False: "reference")
    assert sl.warm() == (0, 0)
    assert cli.main(["warm"]) == 2
    assert "NumPy does the work" in capsys.readouterr().err


def _named(monkeypatch: pytest.MonkeyPatch, *argv: str) -> list[tuple[Any, ...]]:
    """Return what the command line has ``warm`` call, by number of classes, type, spec, mask and target."""
    asked: list[tuple[Any, ...]] = []

    def note(specs: Any, kinds: Any, where: bool, soft: bool) -> list[Any]:
        asked.append((specs, [kind.name for kind in kinds], where, soft))
        return []

    monkeypatch.setattr(_warm, "_calls", note)
    assert cli.main(["warm", *argv]) == 0
    return asked


def test_the_command_line_asks_for_plain_float32(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _named(monkeypatch) == [([sl.LossSpec()], ["float32"], False, False)]
    assert "0 loops compiled, " in capsys.readouterr().out


def test_the_command_line_makes_every_named_loss(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    chosen = [text for name in sl.losses.REGISTRY for text in ("--loss", name)]
    ((specs, dtypes, where, soft),) = _named(
        monkeypatch, *chosen, "--dtype", "float64", "--dtype", "float16", "--where", "--soft", "--quiet"
    )
    assert (dtypes, where, soft) == (["float64", "float16"], True, True)
    assert sl.losses.focal() in specs
    assert sl.losses.balanced_softmax(range(1, 65)) in specs
    lengths = {spec.num_classes for spec in specs} - {None}
    loops = _dispatch.kernels()
    assert loops is not None
    assert min(lengths) <= loops.short.MOST_CLASSES < max(lengths)
    assert capfd.readouterr() == ("", "")


def test_the_command_line_asks_for_the_log_of_the_mean_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def note(specs: Any, kinds: Any, where: bool) -> list[Any]:
        asked.append((specs, [kind.name for kind in kinds], where))
        return []

    monkeypatch.setattr(_warm, "_log_calls", note)
    _named(monkeypatch, "--where")
    assert asked == []
    _named(monkeypatch, "--log", "--where", "--loss", "vs", "--dtype", "float64")
    ((specs, dtypes, where),) = asked
    assert (dtypes, where) == (["float64"], True)
    assert sl.losses.vs(range(1, 65)) in specs


def test_masks_and_distributions_are_compiled_when_asked_for() -> None:
    calls = [
        sum(1 for _ in _warm._calls([sl.LossSpec()], [np.dtype(np.float32)], where, soft))
        for where, soft in ((False, False), (True, False), (False, True), (True, True))
    ]
    lengths = len(_warm._LENGTHS)
    assert calls == [2 * lengths, 4 * lengths, 3 * lengths, 6 * lengths]


def test_the_log_of_the_mean_loss_is_compiled_when_asked_for() -> None:
    specs, kinds = [sl.LossSpec(), sl.losses.focal(), sl.LossSpec(bias=np.ones(3))], [np.dtype(np.float64)]
    names = [name for name, _ in _warm._log_calls(specs, kinds, False)]
    assert names == ["log of the mean loss, float64"] * (len(_warm._LENGTHS) + 1)
    sl.warm(specs, ["float64"], log=True)
    assert sl.warm(specs, ["float64"], log=True).compiled == 0


def test_a_spec_that_needs_labels_gets_no_distribution() -> None:
    sl.warm([sl.losses.focal()], soft=True)


def test_a_folder_that_cannot_be_written_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from numba.core.caching import NullCache

    from softmax_lab._kernels.compiler import LOOPS

    monkeypatch.setattr(LOOPS[0], "_cache", NullCache())
    assert cli.main(["warm"]) == 2
    assert "set NUMBA_CACHE_DIR" in capsys.readouterr().err
