"""Storage of models. A process that touches a dead mount may hang forever, so a child process tries it first."""

from __future__ import annotations

import os
import subprocess
from typing import Iterable, Optional

from pi.on_pod import probe, process, reading
from pi.on_pod.pace import paced
from pi.on_pod.wire import PodError

PATIENCE_S = 5

PROBE_BYTES = 64 * 1024
"""Bytes that a disk must have free not to be called full."""

CHOSEN = "~/.pi/models"
"""A link that setup makes to the folder of --models-path or --mount; ~/.cache/huggingface leads there, too."""

ABSENT = "No such file or directory"


def hub_cache() -> str:
    """Return the folder where huggingface_hub keeps models (its documented variables, in its order).

    A folder that a setup chose (`CHOSEN`) comes first, as in ~/.pi/env.sh.
    """
    cache = os.path.expanduser("~/.cache")
    if os.path.islink(os.path.expanduser(CHOSEN)):
        return os.path.join(cache, "huggingface", "hub")
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or cache, "huggingface")
    own = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return own or os.path.join(home, "hub")


def trouble(path: Optional[str] = None) -> Optional[str]:
    """Return why a path (by default the hub's cache) is out of reach, such as "/mnt/x: Stale file handle".

    Returns None if it is not, or does not exist yet. A link to nothing is out of reach.
    """
    try:
        child = subprocess.Popen(
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
        _, output = child.communicate(timeout=paced(PATIENCE_S))
    except subprocess.TimeoutExpired:
        process.kill_group(child.pid)
        problem = "no answer within %d s" % PATIENCE_S
    else:
        problem = output.decode("utf-8", "replace").strip().rpartition(": ")[2] if child.returncode else ABSENT
    if problem == ABSENT:
        return _broken_link(path or hub_cache())
    return "%s: %s" % (path or _cache_folder(), problem)


def _broken_link(path: str) -> Optional[str]:
    """Return the link on the way to a path whose target does not exist, such as storage that is not mounted."""
    while path not in ("", os.path.sep):
        if os.path.islink(path) and not os.path.exists(path):
            return "%s is a link to %s, which does not exist" % (path, os.path.realpath(path))
        path = os.path.dirname(path)
    return None


def full(paths: Iterable[str]) -> Optional[str]:
    """Return the first of these folders whose disk or quota is full, or None. Tries for seconds to write there."""
    try:
        return reading.within(paced(PATIENCE_S), lambda: _full(paths))
    except TimeoutError:
        return None


def _full(paths: Iterable[str]) -> Optional[str]:
    for path in paths:
        try:
            with os.fdopen(probe.unnamed(existing(path)), "wb") as file:
                file.write(bytes(PROBE_BYTES))
        except OSError as error:
            if error.errno in reading.FULL:
                return path
    return None


def check(path: Optional[str] = None) -> None:
    """Raise PodError if models are out of reach."""
    problem = trouble(path)
    if problem:
        raise PodError("storage", "models cannot be reached: " + problem)


def _cache_folder() -> str:
    """Return where the hub's cache is, without touching the target of a link."""
    folder = os.path.dirname(hub_cache())
    return os.readlink(folder) if os.path.islink(folder) else hub_cache()


def existing(path: str) -> str:
    """Return the nearest folder of a path that exists."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path
