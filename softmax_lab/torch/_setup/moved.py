"""Former places of classes: a module saved whole, by ``torch.save(module)``, names the place of that day."""

from __future__ import annotations

import sys
from importlib import import_module

__all__ = ["MOVED"]

_PACKAGE = __package__.rpartition(".")[0]
#: former modules of the torch package, and where their classes are now
MOVED = {
    "_composite": "_base.options",
    "_family": "_formula.fields",
    "_passes": "modules.passes",
    "balanced": "modules.balanced",
    "monitor": "modules.monitor",
}
for _former, _now in MOVED.items():
    sys.modules[f"{_PACKAGE}.{_former}"] = import_module(f"{_PACKAGE}.{_now}")
