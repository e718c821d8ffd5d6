"""Without torch there is nothing to collect of what is for torch, and without Triton nothing of its kernels.

The interpreter must be asked for before Triton is first imported, by torch's compiler for example.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

os.environ.setdefault("TRITON_INTERPRET", "1")
collect_ignore_glob = [] if find_spec("torch") else ["softmax_lab/torch/*", "tests/clients/*", "tests/torch/*"]
if not find_spec("triton"):
    collect_ignore_glob += ["softmax_lab/torch/triton/*", "tests/torch/triton/*"]
