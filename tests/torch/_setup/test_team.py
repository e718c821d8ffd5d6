"""The loops' parts run on torch's own threads.

Each is done once, errors are raised here, and a forked child works on its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import softmax_lab as sl
from softmax_lab import _threads
from softmax_lab.torch._setup.team import openmp_team
from tests.limits import HANG

TEAM = openmp_team()
needs_team = pytest.mark.skipif(TEAM is None, reason="torch has no threads of GNU OpenMP here")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = sl.get_num_threads()
    sl.set_num_threads(2)
    yield
    sl.set_num_threads(before)


@needs_team
def test_the_team_is_in_use() -> None:
    assert _threads._State.team is not None


@needs_team
def test_every_part_is_done_once_and_by_torchs_threads(two_threads: None) -> None:
    torch.randn(256, 256) @ torch.randn(256, 256)
    done, by = np.zeros(4096, int), set()

    def loop(start: int, stop: int) -> None:
        done[start:stop] += 1
        by.add(threading.current_thread().name.split("-")[0])

    _threads.share(loop, 4096, 1000)
    assert (done == 1).all()
    assert by <= {"MainThread", "Dummy"}  # threads that Python did not start


@needs_team
def test_an_error_on_any_thread_is_raised_here(two_threads: None) -> None:
    def loop(start: int, stop: int) -> None:
        if stop == 4096:
            raise KeyError(start)

    with pytest.raises(KeyError):
        _threads.share(loop, 4096, 1000)


@needs_team
def test_results_are_those_of_our_own_threads(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = np.random.default_rng(0).normal(size=(3000, 100)), np.zeros(3000, int)
    by_team = sl.cross_entropy_grad(z, y)
    monkeypatch.setattr(_threads._State, "team", None)
    by_pool = sl.cross_entropy_grad(z, y)
    assert by_team[0] == by_pool[0]
    np.testing.assert_array_equal(by_team[1], by_pool[1])


@needs_team
def test_several_python_threads_at_once(two_threads: None) -> None:
    z, y = np.random.default_rng(0).normal(size=(3000, 100)), np.zeros(3000, int)
    expected, found = sl.cross_entropy(z, y), []
    workers = [threading.Thread(target=lambda: found.append(sl.cross_entropy(z, y))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert found == [expected] * 4


CHILD = """
import os
import numpy as np
import softmax_lab as sl
import softmax_lab.torch
from softmax_lab import _threads

sl.set_num_threads(2)
z, y = np.random.default_rng(0).normal(size=(3000, 100)), np.zeros(3000, int)
assert _threads._State.team is not None
expected = sl.cross_entropy(z, y)
child = os.fork()
if child == 0:
    os._exit(0 if _threads._State.team is None and sl.cross_entropy(z, y) == expected else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@needs_team
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_uses_threads_of_its_own() -> None:
    subprocess.run([sys.executable, "-c", CHILD], check=True, timeout=HANG)
