"""What a team adds: the modules in a package named `own`, found by lying there, in the order of their names.

    own("tasks.signals")   ->   [<module tasks.signals.own.shouting>]
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def own(package: str) -> list[ModuleType]:
    folder = importlib.import_module(f"{package}.own")
    names = sorted(found.name for found in pkgutil.iter_modules(folder.__path__))
    return [importlib.import_module(f"{package}.own.{name}") for name in names]
