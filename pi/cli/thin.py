"""Import Invoke and Fabric without modules that take most of their time and that the `pi` command does not need.

Import this module before anything imports Invoke. A lazy loader cannot help: `invoke/context.py` takes a name from
`unittest.mock` at once, and `fabric/connection.py` several from paramiko.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

OF_INVOKE = ("unittest.mock", "invoke.vendor.yaml")
"""Modules that Invoke imports. Whoever else imports them gets the real ones."""

OF_FABRIC = ("paramiko", "paramiko.agent", "paramiko.client", "paramiko.proxy", "fabric.auth")
"""Modules that Fabric imports for its own transport; pi's connection is the system's `ssh`."""


class StandIn(ModuleType):
    """A module whose every name is a function that calls the real module's."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(import_module(self.__name__), name)(*args, **kwargs)

        return call


class Unused:
    """A class of paramiko's. Fabric's connection makes a client, and pi's never uses it."""

    def set_missing_host_key_policy(self, policy: object) -> None:
        """Do nothing: `ssh` checks host keys."""


class UnusedModule(ModuleType):
    """A module whose every name is Unused."""

    def __getattr__(self, name: str) -> type[Unused]:
        if name.startswith("__"):
            raise AttributeError(name)
        return Unused


def import_invoke() -> None:
    """Import Invoke, with stand-ins for the modules of OF_INVOKE that are not loaded yet."""
    stand_ins = {name: StandIn(name) for name in OF_INVOKE if name not in sys.modules}
    sys.modules |= stand_ins
    try:
        import_module("invoke")
    finally:
        for name in stand_ins:
            del sys.modules[name]


def spare_fabric() -> None:
    """Keep the modules of OF_FABRIC from being loaded; `paramiko.config`, which is small, still is."""
    found = PathFinder.find_spec("paramiko")
    if found and "paramiko" not in sys.modules:
        sys.modules |= {name: UnusedModule(name) for name in OF_FABRIC}
        sys.modules["paramiko"].__path__ = list(found.submodule_search_locations or ())


import_invoke()
spare_fabric()
