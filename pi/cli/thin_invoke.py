"""Import Invoke without `unittest.mock` and YAML, which take a third of its time and which pi does not need.

Import this module before anything imports Invoke. A lazy loader cannot help: `invoke/context.py` takes a name from
`unittest.mock` at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

UNNEEDED = ("unittest.mock", "invoke.vendor.yaml")


class StandIn(ModuleType):
    """A module whose every name is a function that calls the real module's."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(import_module(self.__name__), name)(*args, **kwargs)

        return call


def import_invoke() -> None:
    """Import Invoke, with stand-ins for the modules of UNNEEDED that are not loaded yet."""
    stand_ins = {name: StandIn(name) for name in UNNEEDED if name not in sys.modules}
    sys.modules |= stand_ins
    try:
        import_module("invoke")
    finally:
        for name in stand_ins:
            del sys.modules[name]


import_invoke()
