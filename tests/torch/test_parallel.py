"""The class-parallel losses on 1 to 4 processes started by torchrun, one of which may be lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.limits import HANG
from tests.specs import K
from tests.torch.parallel_cases import CASES, SIZES

ROOT = Path(__file__).resolve().parents[2]
RANKS = max(SIZES)


def launch(
    folder: Path, ranks: int, *options: str
) -> tuple[subprocess.CompletedProcess[str], dict[int, dict[str, str]]]:
    """Run the cases by torchrun; return how it ended, and what each rank that got to the end wrote."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    done = subprocess.run(
        [*command, "-m", "tests.torch.parallel_cases", str(folder), *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
    files = {rank: folder / f"rank{rank}.json" for rank in range(ranks)}
    return done, {
        rank: json.loads(file.read_text(encoding="utf-8")) for rank, file in files.items() if file.is_file()
    }


@pytest.mark.slow
def test_every_case_on_one_to_four_ranks(tmp_path: Path) -> None:
    done, found = launch(tmp_path, RANKS)
    wrong = {
        f"rank {rank}, {case}": text
        for rank, outcomes in found.items()
        for case, text in outcomes.items()
        if text
    }
    assert not wrong, "\n".join(f"{case}\n{text}" for case, text in wrong.items())
    assert done.returncode == 0, done.stderr[-5000:]
    for rank in range(RANKS):
        assert set(found[rank]) == {
            f"{ranks}: {case}" for ranks in range(rank + 1, RANKS + 1) for case in CASES
        }


@pytest.mark.long
def test_a_lost_rank_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    done, found = launch(tmp_path, 2, "--lost")
    assert found == {0: {"late": "", "dead": ""}}, done.stderr[-5000:]


def test_the_shards_of_the_cases_are_uneven_and_whole() -> None:
    assert all(len(sizes) == ranks and sum(sizes) == K for ranks, sizes in SIZES.items())
    assert all(len(set(sizes)) > 1 for ranks, sizes in SIZES.items() if ranks > 1)
    assert any(0 in sizes for sizes in SIZES.values())
