"""Without torch there is nothing to collect of what is for torch."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["softmax_lab/torch/*", "tests/torch/*"]
