"""Storage of models: what touches a dead mount may hang for ever, so another process touches it first, for a while."""

from __future__ import annotations

import os
import subprocess
from typing import Optional

from pi.on_pod import process
from pi.on_pod.pace import paced
from pi.on_pod.wire import PodError

PATIENCE_S = 5

ABSENT = "No such file or directory"


def hub_cache() -> str:
    """Where huggingface_hub keeps models (its documented variables, in its order)."""
    home = os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface")
    return os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")


def trouble(path: Optional[str] = None) -> Optional[str]:
    """What keeps a path (or else the hub's cache) from being used, such as "/mnt/x: Stale file handle".

    None where nothing does, or where nothing is there yet.
    """
    try:
        asked = subprocess.Popen(
            ["stat", "-L", "--", path or hub_cache()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=dict(os.environ, LC_ALL="C"),
        )
    except OSError:
        return None
    try:
        _, said = asked.communicate(timeout=paced(PATIENCE_S))
    except subprocess.TimeoutExpired:
        process.kill_group(asked.pid)
        problem = "no answer within %d s" % PATIENCE_S
    else:
        problem = said.decode("utf-8", "replace").strip().rpartition(": ")[2] if asked.returncode else ABSENT
    return None if problem == ABSENT else "%s: %s" % (path or _place(), problem)


def check(path: Optional[str] = None) -> None:
    """Raises PodError where models cannot be reached."""
    problem = trouble(path)
    if problem:
        raise PodError("storage", "models cannot be reached: " + problem)


def _place() -> str:
    """Where the hub's cache lies, found without touching what a link leads to."""
    folder = os.path.dirname(hub_cache())
    return os.readlink(folder) if os.path.islink(folder) else hub_cache()


def existing(path: str) -> str:
    """The nearest folder of a path that is there."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path
