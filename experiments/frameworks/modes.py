"""The cells of the article's table: locks, graphs, threads and devices."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from softmax_lab.audit import adapters

__all__ = [
    "LockRelease",
    "lock_release",
    "tensorflow_modes",
    "tensorflow_nan_row",
    "torch_modes",
    "turns_beside",
]


# the cells of the article's table
class LockRelease(NamedTuple):
    """How fast a second Python thread counts while a call runs.

    The unit of ``share`` is its speed while the first thread sleeps.
    """

    share: float
    seconds: float


def lock_release(call: Callable[[], object], *, repeats: int = 5) -> LockRelease:
    """Measure whether ``call`` lets other Python threads run.

    A share near 0 says that the call holds the interpreter lock throughout.

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


def turns_beside(call: Callable[[], object], *, calls: int = 20_000) -> int:
    """Return how many turns another Python thread, which is always ready, gets while a call is repeated.

    The interpreter takes the lock from nobody meanwhile: a call that keeps it leaves none, exactly.
    """
    turns, stop = [0], threading.Event()

    def take_turns() -> None:
        while not stop.is_set():
            turns[0] += 1
            time.sleep(1e-5)  # lets the lock go

    thread, interval = threading.Thread(target=take_turns, daemon=True), sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    try:
        thread.start()
        time.sleep(0.01)  # from here on it waits for the lock with the new interval
        before = turns[0]
        for _ in range(calls):
            call()
        return turns[0] - before
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        thread.join()


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
    """Return TensorFlow's softmax of (1, NaN, 2, 0) in float32 from a fresh process.

    The process has TensorFlow's oneDNN kernels or has them not.
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
