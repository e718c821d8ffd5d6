"""Sharing rows between threads: a plain pool of Python threads.

The loops release the interpreter's lock. Numba's own threading layers abort when two threads call at once
(workqueue), or hang in forked children (OpenMP). A pool that a child process makes anew has neither trouble.
No result depends on the split, as rows are independent.

Another library's threads may be waiting at the same time, and some wait by spinning. Two pools on the same
cores then cost far more than either saves. So where there is such a library, its own threads can be asked to
run the parts (:func:`use_team`).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

from . import _checks

__all__ = ["WORTH_SHARING", "Team", "get_num_threads", "set_num_threads", "share", "use_team"]

#: a team calls a function on each of a number of threads, this one among them, or on fewer; it returns when
#: all have returned
Team = Callable[[Callable[[], None], int], None]

_SMALLEST = 1 << 15  # entries worth a hand-over to another thread: about 20 microseconds of work
WORTH_SHARING = 2 * _SMALLEST  #: fewer entries are one thread's
_PARTS_A_THREAD = 4  # a thread that was held up leaves its remaining parts to the others


class _State:
    """The wanted number of threads, and the pool of the process that made it."""

    threads: int | None = None
    pool: ThreadPoolExecutor | None = None
    workers: int = 0
    team: Team | None = None  # threads of another library


def _forget_pool() -> None:
    """In a forked child the parent's threads do not exist, and another library's pool may not know."""
    _State.pool = None
    _State.workers = 0
    _State.team = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def get_num_threads() -> int:
    """Return how many threads the compiled loops use.

    That is what was set, else OMP_NUM_THREADS, else the processors at hand.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> sl.get_num_threads() >= 1
    True
    """
    if _State.threads is None:
        wanted = os.environ.get("OMP_NUM_THREADS", "")
        at_hand = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        _State.threads = max(1, int(wanted)) if wanted.isdigit() else at_hand
    return _State.threads


def set_num_threads(threads: int) -> None:
    """Set how many threads the compiled loops use. No result depends on it.

    Examples
    --------
    >>> import softmax_lab as sl
    >>> before = sl.get_num_threads()
    >>> sl.set_num_threads(1)
    >>> sl.set_num_threads(before)
    """
    _State.threads = _checks.whole("threads", threads, low=1)


def _pool(workers: int) -> ThreadPoolExecutor:
    if _State.pool is None or _State.workers < workers:
        _State.pool, _State.workers = ThreadPoolExecutor(workers, thread_name_prefix="softmax_lab"), workers
    return _State.pool


def use_team(team: Team | None) -> None:
    """Let ``team`` run the loops' parts from now on, until the process forks; None: a pool of our own."""
    _State.team = team


def share(
    loop: Callable[[int, int], None],
    rows: int,
    num_classes: int,
    whole: int = 8,
    *,
    backward: bool = False,
    light: int = 1,
) -> None:
    """Call ``loop(start, stop)`` over all rows, in parts on several threads where there is work enough.

    Parts begin at multiples of ``whole``: registers of eight rows. With ``backward`` each thread takes its
    parts from the last on: what a pass before this one has read last is in the caches.
    ``light`` says how many entries cost what an exponential does.
    """
    threads = get_num_threads()
    parts = min(threads * _PARTS_A_THREAD, rows * num_classes // (light * _SMALLEST), rows)
    if threads == 1 or parts < 2:
        loop(0, rows)
        return
    edges = [rows * i // parts // whole * whole for i in range(parts)] + [rows]
    pairs, step = list(itertools.pairwise(edges)), -1 if backward else 1
    if _State.team is not None:
        _share_with(_State.team, loop, pairs[::step], threads)
        return
    own = parts - parts // threads * (threads - 1)
    waiting = [_pool(threads - 1).submit(loop, *part) for part in pairs[own:][::step]]
    try:
        for part in pairs[:own][::step]:
            loop(*part)
    finally:
        wait(waiting)  # whoever sees an error may use the arrays again
    for done in waiting:
        done.result()


def _share_with(
    team: Team, loop: Callable[[int, int], None], parts: list[tuple[int, int]], threads: int
) -> None:
    take = itertools.count().__next__  # under the interpreter's lock no two threads get the same number
    failed: list[BaseException] = []

    def work() -> None:
        try:
            while (i := take()) < len(parts):
                loop(*parts[i])
        except BaseException as error:  # raised where it can be caught: not on a thread of another library
            failed.append(error)

    team(work, threads)
    if failed:
        raise failed[0]
