"""Fresh processes, started by torchrun, that do a part of the work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def in_processes(
    processes: int, threads: int, part: str, setting: dict[str, Any], *, alone: bool = False
) -> list[list[list[Any]]]:
    """Run a part of the command on fresh processes, and return their rows by rank.

    They are started by torchrun. ``alone`` is one process without a group.
    """
    torchrun = (
        [] if alone else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    )
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            *torchrun,
            "-m",
            "experiments.large_vocabulary",
            "--part",
            part,
            json.dumps(setting),
            folder,
        ]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(
                f"{processes} processes ended with status {done.returncode}:\n{done.stderr[-3000:]}"
            )
        return [
            json.loads((Path(folder) / f"{rank}.json").read_text(encoding="utf-8"))
            for rank in range(processes)
        ]
