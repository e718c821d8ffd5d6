"""Rows shared between threads: each once, errors brought home, and the number set with care."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

import softmax_lab as sl
from softmax_lab import _threads


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the threads and the team as they were."""
    for name in ("threads", "team"):
        monkeypatch.setattr(_threads._State, name, None)


def test_threads_are_set_and_checked() -> None:
    before = sl.get_num_threads()
    with pytest.raises(ValueError, match="threads must be >= 1; got 0"):
        sl.set_num_threads(0)
    assert sl.get_num_threads() == before


def test_every_row_is_shared_out_once() -> None:
    sl.set_num_threads(3)
    for rows, k in ((1, 10**6), (7, 10**6), (1000, 1000), (12345, 10), (0, 5)):
        seen: list[int] = []
        _threads.share(lambda start, stop, seen=seen: seen.extend(range(start, stop)), rows, k)  # type: ignore[misc]
        assert sorted(seen) == list(range(rows))


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    sl.set_num_threads(2)

    def fail(start: int, stop: int) -> None:
        raise RuntimeError("in the loop")

    with pytest.raises(RuntimeError, match="in the loop"):
        _threads.share(fail, 1000, 1000)


def test_what_runs_goes_on_to_its_end_when_a_part_fails() -> None:
    """Whoever catches the error may use the arrays again."""
    sl.set_num_threads(2)
    done: list[int] = []

    def loop(start: int, stop: int) -> None:
        if start == 0:
            raise RuntimeError("in the loop")
        time.sleep(0.01)
        done.append(start)

    with pytest.raises(RuntimeError, match="in the loop"):
        _threads.share(loop, 1000, 1000)
    seen = len(done)
    time.sleep(0.1)
    assert len(done) == seen > 0


@pytest.mark.parametrize(("wanted", "threads"), [("5", 5), ("0", 1), ("", None), ("2,1", None)])
def test_the_environment_says_how_many(
    wanted: str, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    at_hand = sl.get_num_threads()
    monkeypatch.setattr(_threads._State, "threads", None)
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert sl.get_num_threads() == (at_hand if threads is None else threads)


def test_little_work_stays_on_the_callers_thread() -> None:
    sl.set_num_threads(4)
    seen: list[tuple[int, int, int]] = []
    _threads.share(lambda start, stop: seen.append((start, stop, threading.get_ident())), 8, 1000)
    assert seen == [(0, 8, threading.get_ident())]


def test_parts_begin_at_whole_registers() -> None:
    sl.set_num_threads(3)
    edges: list[tuple[int, int]] = []
    _threads.share(lambda start, stop: edges.append((start, stop)), 1003, 1000, whole=8)
    assert len(edges) > 3
    assert all(start % 8 == 0 for start, _ in edges)
    assert max(stop for _, stop in edges) == 1003


def test_a_team_runs_the_parts_in_place_of_the_pool() -> None:
    sl.set_num_threads(3)
    asked: list[int] = []

    def team(work: Callable[[], None], threads: int) -> None:
        asked.append(threads)
        work()  # on fewer threads than were asked for

    _threads.use_team(team)
    seen: list[int] = []
    _threads.share(lambda start, stop: seen.extend(range(start, stop)), 1000, 1000)
    assert asked == [3]
    assert sorted(seen) == list(range(1000))


@pytest.mark.parametrize("with_a_team", [False, True])
def test_backward_is_the_same_parts_from_the_last_on(with_a_team: bool) -> None:
    sl.set_num_threads(2)
    if with_a_team:
        _threads.use_team(lambda work, threads: work())
    ahead: list[tuple[int, int]] = []
    behind: list[tuple[int, int, int]] = []
    _threads.share(lambda start, stop: ahead.append((start, stop)), 1003, 1000)
    _threads.share(
        lambda start, stop: behind.append((start, stop, threading.get_ident())), 1003, 1000, backward=True
    )
    assert sorted(part[:2] for part in behind) == sorted(ahead)
    for thread in {part[2] for part in behind}:
        starts = [start for start, _, of in behind if of == thread]
        assert starts == sorted(starts, reverse=True)
