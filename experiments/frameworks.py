r"""What do the frameworks really do? The stored audit, and the small demonstrations of chapter 4.

``python -m experiments.frameworks`` audits every adapter (some minutes; torch.compile takes most of them) and
writes ``results/audit.csv``, one adapter after the other: what is already there is kept, so that a run can be
stopped and taken up again (``--fresh`` starts anew). A framework that is not installed is named, with the
extra that installs it, and left out.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401 - teaches NumPy the name bfloat16
import numpy as np
import pandas as pd
from numpy.typing import NDArray

import softmax_lab as sl
from experiments.calibration import expected_calibration_error, top_label
from experiments.mlp import Network, forward, initial_network, loss_and_gradient, sgd
from softmax_lab import data
from softmax_lab.audit import CHECKS, adapters

__all__ = [
    "AUDIT",
    "GRADIENTS",
    "Digits",
    "LockRelease",
    "Trained",
    "WeightedOptimum",
    "absent",
    "answers",
    "available",
    "failing",
    "free_logits",
    "half_precision",
    "lock_release",
    "nothing_left",
    "read_audit",
    "run_audit",
    "shared",
    "smoothing_runs",
    "tensorflow_modes",
    "tensorflow_nan_row",
    "torch_modes",
    "weighted_optimum",
    "write_audit",
]

Rows = NDArray[Any]
Array = NDArray[np.float64]

AUDIT = Path(__file__).parent / "results" / "audit.csv"
COLUMNS = ("implementation", "function", "dtype", "case", "max_ulp", "problem", "version", "platform")
LIMIT_ULP = 4.0
_FRAMEWORK = {"torch.compile": "torch", "tf.function": "tensorflow", "jax.jit": "jax"}
GRADIENTS = ("softmax_lab", "numpy", "torch", "tensorflow", "jax")  # eager, with a gradient


# the stored audit


def available(names: Iterable[str] = tuple(adapters.ADAPTERS)) -> list[str]:
    """Return the adapters whose framework is installed, in their order."""
    return [name for name in names if adapters.installed(name)]


def absent(names: Iterable[str] = tuple(adapters.ADAPTERS)) -> str:
    """Return a sentence that names what is not installed and how to install it.

    "" where nothing is missing.
    """
    missing = [name for name in names if not adapters.installed(name)]
    return (
        f"not installed, and left out: {', '.join(missing)}; pip install 'softmax-lab[frameworks]'"
        if missing
        else ""
    )


def run_audit(
    names: Sequence[str] = tuple(adapters.ADAPTERS),
    path: Path = AUDIT,
    *,
    dtypes: Sequence[str] | None = None,
    functions: Sequence[str] | None = None,
    fresh: bool = False,
    say: Callable[[str], object] = print,
) -> pd.DataFrame:
    """Audit what ``path`` does not hold yet, writing it after each implementation, and return all of it.

    ``dtypes`` and ``functions`` are handed to :func:`softmax_lab.audit.run`. An implementation whose
    framework is missing or does not work is told through ``say`` and left out.
    """
    table = (
        pd.DataFrame(columns=list(COLUMNS))
        if fresh or not path.exists()
        else pd.read_csv(path, keep_default_na=False)
    )
    for name in names:
        if name in set(table["implementation"]):
            continue
        try:
            subject = adapters.make(name)
        except adapters.MissingFramework as missing:
            say(f"{name}: left out: {missing}")
            continue
        start = time.perf_counter()
        found = sl.audit.run(
            {name: subject}, limit_ulp=LIMIT_ULP, dtypes=dtypes, functions=functions, progress=False
        )
        table = pd.concat([table, _stored(found, name)], ignore_index=True)
        write_audit(_in_order(table), path)
        say(f"{name}: {len(found)} rows in {time.perf_counter() - start:.0f} s")
    return _in_order(table)


def _stored(found: pd.DataFrame, name: str) -> pd.DataFrame:
    """Keep what cannot be looked up, as text: whether a row is ok follows from its problem, the reason from
    its case.
    """
    return found.assign(
        max_ulp=[f"{ulp:.4g}" if ulp == ulp else "" for ulp in found["max_ulp"]],
        version=adapters.versions()[_FRAMEWORK.get(name, name)],
        platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    )[list(COLUMNS)]


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    order = {name: place for place, name in enumerate(adapters.ADAPTERS)}
    return table.sort_values(
        "implementation", key=lambda names: names.map(order), kind="stable", ignore_index=True
    )


def write_audit(table: pd.DataFrame, path: Path = AUDIT) -> None:
    """Write the table to a temporary file and move it into place: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        table.to_csv(temporary, index=False, lineterminator="\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_audit(path: Path = AUDIT) -> pd.DataFrame:
    """Return the stored audit with the columns of :func:`softmax_lab.audit.run`, and ``version`` and
    ``platform``.
    """
    table = pd.read_csv(path, dtype={"version": str}, keep_default_na=False)
    reasons = {check.name: check.reason for check in CHECKS}
    return table.assign(
        max_ulp=pd.to_numeric(table["max_ulp"], errors="coerce"),
        ok=table["problem"] == "",
        reason=table["case"].map(reasons),
    )


def failing(
    table: pd.DataFrame, function: str, case: str, dtypes: Sequence[str] = ("float32", "float64")
) -> list[str]:
    """Return the implementations that fail a case in every one of ``dtypes``."""
    rows = table[(table["function"] == function) & (table["case"] == case) & table["dtype"].isin(dtypes)]
    return [
        name
        for name, own in rows.groupby("implementation", sort=False)
        if len(own) == len(dtypes) and not own["ok"].any()
    ]


def shared(
    table: pd.DataFrame, functions: Sequence[str], *, but: Sequence[str] = ("softmax_lab",)
) -> dict[tuple[str, str], bool]:
    """Map (function, case) to True where all fail in float32, False where only some do.

    Where none does it is left out.

    ``but`` are not asked. What counts are the implementations that offer the function and the case; one alone
    is "some".
    """
    rows = table[
        (table["dtype"] == "float32") & table["function"].isin(functions) & ~table["implementation"].isin(but)
    ]
    verdicts = rows.groupby(["function", "case"], sort=False)["ok"]
    return {(str(key[0]), str(key[1])): len(ok) > 1 and not ok.any() for key, ok in verdicts if not ok.all()}


# what each implementation does where nothing is defined

_ROW = np.array([[1.0, 2.0, 3.0]], dtype=np.float32)
_SPOILT = {
    "+inf in the row": np.array([[1.0, np.inf, 3.0]], dtype=np.float32),
    "NaN in the row": np.array([[1.0, np.nan, 3.0]], dtype=np.float32),
    "all -inf": np.full((1, 3), -np.inf, dtype=np.float32),
}
_IMPOSSIBLE = np.array([[1.0, -np.inf, 3.0]], dtype=np.float32)
_OUTSIDE = {"label K": 3, "label -1": -1, "label -100": -100}
_LOSSES = {"loss": "cross_entropy", "gradient": "cross_entropy_grad"}


def answers(name: str) -> dict[str, str]:
    """Return what the adapter ``name`` answers on rows and labels that have no right answer, situation ->
    answer in a few words.
    """
    subject = adapters.make(name)
    log_p = {f"log_softmax, {what}": _told(partial(subject.log_softmax, z)) for what, z in _SPOILT.items()}
    impossible = {
        "loss, label's logit -inf": _told(partial(subject.cross_entropy, _IMPOSSIBLE, np.array([1])))
    }
    return (
        log_p
        | impossible
        | {
            f"{what}, {label}": _labelled(subject, what, y)
            for what in _LOSSES
            for label, y in _OUTSIDE.items()
        }
    )


def _labelled(subject: Any, what: str, y: int) -> str:
    function = getattr(subject, _LOSSES[what], None)
    return _told(partial(function, _ROW, np.array([y]))) if function else "not offered"


def _told(call: Callable[[], Any]) -> str:
    """Call, and put the answer or the error into a few words."""
    try:
        with np.errstate(all="ignore"):
            values = np.asarray(call(), dtype=np.float64)
    except Exception as error:  # which one is the answer
        return f"raises {type(error).__name__}"
    return " ".join(f"{value:.3g}" for value in values.ravel())


def nothing_left(name: str) -> dict[str, str]:
    """Return what a framework answers where everything is ignored or masked out.

    "not offered" where it has no such thing.
    """
    return {what: _told(call) if call else "not offered" for what, call in _nothing_left(name).items()}


def _nothing_left(name: str) -> dict[str, Callable[[], Any] | None]:
    z, mask, ignored = (
        np.zeros((2, 3), dtype=np.float32),
        np.zeros((2, 3), dtype=bool),
        np.array([-100, -100]),
    )
    adapters.make(name)  # says what to install where the framework is missing
    mean, masked = "mean loss, all labels ignored", "softmax, all masked by its own mask"
    if name == "softmax_lab":
        return {mean: lambda: sl.cross_entropy(z, ignored), masked: lambda: sl.softmax(z, where=mask)[:1]}
    if name == "torch":
        import torch

        return {
            mean: lambda: torch.nn.functional.cross_entropy(torch.from_numpy(z), torch.from_numpy(ignored)),
            masked: None,
        }
    if name == "tensorflow":
        import tensorflow as tf

        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-100)
        return {mean: lambda: loss(ignored, z), masked: lambda: tf.keras.layers.Softmax()(z, mask=mask)[:1]}
    if name == "jax":
        import jax

        return {mean: None, masked: lambda: jax.nn.softmax(z, where=mask)[:1]}
    return {mean: None, masked: None}


# the cells of the article's table


class LockRelease(NamedTuple):
    """How fast a second Python thread counts while a call runs, as a share of its speed while the first one
    sleeps.
    """

    share: float
    seconds: float


def lock_release(call: Callable[[], object], *, repeats: int = 5) -> LockRelease:
    """Measure whether ``call`` lets other Python threads run: a share near 0 says that it holds the
    interpreter lock throughout.

    With a free core the share of a call that releases the lock is about 1, on a busy machine less; the median
    of the repeats.
    """
    with _counting() as ticks:
        shares, spans = zip(*(_one_release(call, ticks) for _ in range(repeats)), strict=True)
    return LockRelease(statistics.median(shares), statistics.median(spans))


def _one_release(call: Callable[[], object], ticks: list[int]) -> tuple[float, float]:
    call_ticks, call_seconds = _ticks_during(call, ticks)
    free_ticks, free_seconds = _ticks_during(lambda: time.sleep(call_seconds), ticks)
    return (call_ticks / call_seconds) / (free_ticks / free_seconds), call_seconds


def _ticks_during(call: Callable[[], object], ticks: list[int]) -> tuple[int, float]:
    first, start = ticks[0], time.perf_counter()
    call()
    return ticks[0] - first, time.perf_counter() - start


@contextlib.contextmanager
def _counting() -> Iterator[list[int]]:
    """Count in a thread of its own, in pure Python, as long as the block lasts."""
    ticks, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            ticks[0] += 1

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    try:
        yield ticks
    finally:
        stop.set()
        thread.join()


def torch_modes() -> dict[str, str]:
    """Return how PyTorch builds its graph and what it runs on, in words; needs torch."""
    adapters.make("torch")
    import torch

    z = torch.zeros(2, 3, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(z, torch.tensor([0, 1]))
    again = torch.nn.functional.cross_entropy(z, torch.tensor([0, 1]))
    names = [type(node).__name__ for node in _chain(loss.grad_fn)]
    captured = torch.fx.symbolic_trace(lambda z: torch.log_softmax(z, dim=1)).graph
    return {
        "graph of cross_entropy": " <- ".join(names),
        "recorded anew by each call": _yes(loss.grad_fn is not again.grad_fn),
        "can be captured ahead of time": _yes(
            any(node.target is torch.log_softmax for node in captured.nodes)
        ),
        "intra-op threads can be set": _yes(_threads_settable(torch)),
        "same softmax on one thread and two": _yes(_same_bits(torch)),
    }


def _chain(node: Any) -> Iterator[Any]:
    while node is not None:
        yield node
        node = node.next_functions[0][0] if node.next_functions else None


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


@contextlib.contextmanager
def _torch_threads(torch: Any, threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _threads_settable(torch: Any) -> bool:
    counts = []
    for threads in (1, 2):
        with _torch_threads(torch, threads):
            counts.append(torch.get_num_threads())
    return counts == [1, 2]


def _same_bits(torch: Any) -> bool:
    z, results = torch.from_numpy(np.random.default_rng(0).normal(size=(512, 512))), []
    for threads in (1, 2):
        with _torch_threads(torch, threads):
            results.append(torch.softmax(z, dim=1))
    return bool(torch.equal(*results))


def tensorflow_modes() -> dict[str, str]:
    """Return how TensorFlow runs by default and when asked for a graph, in words; needs tensorflow."""
    adapters.make("tensorflow")
    import tensorflow as tf

    traced = tf.function(
        lambda z: tf.nn.softmax(z), input_signature=[tf.TensorSpec([None, None], tf.float32)], autograph=False
    )
    operations = traced.get_concrete_function().graph.get_operations()
    return {
        "executing eagerly by default": _yes(tf.executing_eagerly()),
        "a result has its value at once": _yes(hasattr(tf.nn.softmax(tf.zeros([1, 2])), "numpy")),
        "graph under tf.function": ", ".join(operation.type for operation in operations),
        "compiled by XLA by default": _yes(bool(tf.config.optimizer.get_jit())),
        "runs without a GPU": _yes(_runs_on_cpu(tf)),
    }


def _runs_on_cpu(tf: Any) -> bool:
    with tf.device("/CPU:0"):
        return "CPU" in tf.nn.softmax(tf.zeros([1, 2])).device


_ONEDNN = """
import numpy as np, tensorflow as tf
with tf.device("/CPU:0"):
    print("answer:", *tf.nn.softmax(np.array([[1.0, np.nan, 2.0, 0.0]], dtype=np.float32)).numpy()[0])
"""


def tensorflow_nan_row(*, onednn: bool) -> str:
    """Return TensorFlow's softmax of (1, NaN, 2, 0) in float32 from a fresh process, with or without its
    oneDNN kernels.
    """
    adapters.make("tensorflow")
    settings = {"TF_ENABLE_ONEDNN_OPTS": str(int(onednn)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    found = subprocess.run(
        [sys.executable, "-c", _ONEDNN],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    return next(line for line in found.stdout.splitlines() if line.startswith("answer:")).removeprefix(
        "answer: "
    )


# the training advice


class Trained(NamedTuple):
    """Networks trained on digits with smoothing ``eps``, measured on rows that they have not seen: means over
    the seeds.
    """

    eps: float
    accuracy: float
    confidence: float  # mean largest probability
    ece: float
    gap: float  # of logits: largest less the mean of the others


class Digits(NamedTuple):
    """A small network on few digits: the setting in which it becomes sure of what it has seen.

    A share ``noise`` of the training labels is replaced by labels drawn at random; the test labels are left
    as they are.
    """

    train_rows: int = 300
    noise: float = 0.0
    hidden: int = 64
    steps: int = 1000
    batch: int = 32
    seeds: tuple[int, ...] = (0, 1, 2)


def smoothing_runs(epsilons: Sequence[float], setting: Digits) -> list[Trained]:
    """Train with each smoothing; the networks of a seed share their start, their rows and their
    minibatches.
    """
    runs = [[_trained(eps, seed, setting) for seed in setting.seeds] for eps in epsilons]
    return [
        Trained(eps, *(float(np.mean(values)) for values in zip(*own, strict=True)))
        for eps, own in zip(epsilons, runs, strict=True)
    ]


def _trained(eps: float, seed: int, setting: Digits) -> tuple[float, float, float, float]:
    images, labels = data.digits()
    rng = np.random.default_rng([seed, 7])
    order = rng.permutation(len(images))
    seen, unseen = order[: setting.train_rows], order[setting.train_rows :]
    given = np.where(rng.random(len(labels)) < setting.noise, rng.integers(0, 10, len(labels)), labels)
    draws = (rng.choice(seen, setting.batch) for _ in range(setting.steps))
    logits = forward(
        _fitted(images, given, draws, initial_network(seed, setting.hidden), eps), images[unseen]
    )[1]
    confidence, correct = top_label(sl.softmax(logits), labels[unseen])
    top = logits.max(axis=1)
    gap = top - (logits.sum(axis=1) - top) / (logits.shape[1] - 1)
    return (
        float(correct.mean()),
        float(confidence.mean()),
        expected_calibration_error(confidence, correct),
        float(gap.mean()),
    )


def _fitted(images: Array, labels: Rows, draws: Iterable[Rows], start: Network, eps: float) -> Network:
    spec = sl.losses.label_smoothing(eps)
    steps = sgd(
        start,
        lambda network, rows: loss_and_gradient(network, images[rows], labels[rows], spec)[1],
        draws,
        learning_rate=0.1,
        momentum=0.9,
    )
    return deque(steps, maxlen=1)[0]


class WeightedOptimum(NamedTuple):
    """Where the loss of a smoothed label with class weights is least, as probabilities (K,)."""

    ours: Array
    torch: Array


def weighted_optimum(weight: Array, label: int, eps: float) -> WeightedOptimum:
    r"""Return the minimisers in q of the two ways to weight a smoothed label s.

    A weight of the row leaves it at q = s. A weight of each term, -\sum_k W_k s_k \log q_k, moves it to q = W
    s / \sum_j W_j s_j.
    """
    s = np.full(len(weight), eps / len(weight))
    s[label] += 1 - eps
    return WeightedOptimum(s, weight * s / (weight * s).sum())


def half_precision(offset: float, *, rows: int = 200, classes: int = 10, seed: int = 0) -> pd.DataFrame:
    """Return the largest relative error of p, a row a way: half logits with exact arithmetic after, and half
    arithmetic throughout.

    Logits are normal with standard deviation 3 around ``offset``; p below 1e-4 is left out, near the end of
    float16's range.
    """
    wide = offset + np.random.default_rng(seed).normal(0.0, 3.0, (rows, classes))
    true = sl.softmax(wide)
    textbook = adapters.make("numpy")
    table = {}
    for dtype in ("float16", "bfloat16"):
        z = wide.astype(dtype)
        kept = sl.softmax(z.astype(np.float64))
        found = {
            "logits stored in it": (kept, true),
            "computed in float32 from them": (
                textbook.softmax(z.astype(np.float32)).astype(np.float64),
                kept,
            ),
            "computed in it from them": (textbook.softmax(z).astype(np.float64), kept),
        }
        table[dtype] = {way: _largest_error(p, against) for way, (p, against) in found.items()}
    return pd.DataFrame(table)


def _largest_error(p: Array, true: Array) -> float:
    seen = true > 1e-4
    return float((np.abs(p - true)[seen] / true[seen]).max())


def free_logits(start: Array, label: int, spec: sl.LossSpec, *, steps: int, learning_rate: float) -> Array:
    """Return logits (steps + 1, K) under gradient descent on the loss of one row: the logits themselves are
    the parameters.
    """
    path = [np.asarray(start, dtype=np.float64)]
    for _ in range(steps):
        path.append(
            path[-1] - learning_rate * sl.cross_entropy_grad(path[-1][None], np.array([label]), spec)[1][0]
        )
    return np.stack(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Audit, and write the table."""
    parser = argparse.ArgumentParser(description="Audit every implementation that is installed.")
    parser.add_argument("names", nargs="*", help="adapters; all by default")
    parser.add_argument("--out", type=Path, default=AUDIT)
    parser.add_argument("--fresh", action="store_true", help="drop what is stored")
    options = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it reports every refused label otherwise
    run_audit(options.names or tuple(adapters.ADAPTERS), options.out, fresh=options.fresh)


if __name__ == "__main__":
    main()
