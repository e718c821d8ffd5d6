"""The memory that a process holds, and the most that it has held."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

__all__ = ["forget_peak", "peak", "resident"]

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def resident() -> int:
    """Return the memory that the process holds now, in bytes."""
    return _status("VmRSS")


def peak() -> int:
    """Return the most that the process has held since :func:`forget_peak`, in bytes."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Let the peak start from here, where the system allows it (Linux).

    Elsewhere the peak is that of the whole process.
    """
    if _RESET.exists():
        _RESET.write_text("5", encoding="ascii")


def _status(name: str) -> int:
    if not _STATUS.exists():
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
