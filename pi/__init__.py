"""pi: a bare GPU machine becomes a private, OpenAI-compatible model endpoint, over nothing but SSH."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invoke import Collection

    ns: Collection

__version__ = "0.1.0"


def connection(pod: str | None = None) -> Any:
    """Return the `fabric.Connection` of a pod of pods.json, by default the active one.

    It opens on first use: `pi.connection("dc1").run("nvidia-smi")`. Raises PiError.
    """
    from pi.steps import where

    return where.connection_to(pod)


def __getattr__(name: str) -> Any:
    """Build `pi.ns`, the collection for fabfiles and `tasks.py`, on first use: `import pi` stays fast."""
    if name == "ns":
        from pi.fabric_tasks import namespace

        return namespace()
    raise AttributeError(name)
