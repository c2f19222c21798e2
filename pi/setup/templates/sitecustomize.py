"""Register a signal on which each Python process of a start writes its stacks; pi asks for them if a start hangs.

Python imports this module before it runs a program. The module of this name that it would import otherwise runs too.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib.util
import os
import signal
import sys
from importlib.machinery import PathFinder
from pathlib import Path


def register() -> None:
    """Write stacks to the file PI_STACKS on SIGRTMIN+7, which needs no ptrace."""
    path = os.environ.get("PI_STACKS")
    if path:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO is an error
        descriptor = os.open(path, flags, 0o600)
        faulthandler.register(signal.SIGRTMIN + 7, file=descriptor, all_threads=True)


def run_next() -> None:
    """Run the sitecustomize of the venv or the system, which this one hides."""
    own = Path(__file__).resolve().parent
    spec = PathFinder.find_spec("sitecustomize", [entry for entry in sys.path if Path(entry).resolve() != own])
    if spec and spec.loader:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


with contextlib.suppress(OSError, ValueError, RuntimeError):  # a start without stacks is better than none
    register()
run_next()
