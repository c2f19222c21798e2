"""`stop` on the pod: which deployments, and how each ended."""

from __future__ import annotations

from dataclasses import dataclass

from pi.calls.call import Listener, call
from pi.ssh.link import Link


@dataclass(frozen=True)
class Stopped:
    """How a stop went. `found` is running, starting (not launched yet), leftovers or nothing."""

    name: str
    found: str
    forced_after_s: float | None = None
    """Seconds of waiting after which KILL was sent; None where it ended by itself."""
    memory_proven: bool = True
    """Whether nvidia-smi could be asked if its GPUs' memory is back."""
    strangers: tuple[str, ...] = ()
    """Who else listens on its port now."""


def stop_models(link: Link, names: list[str], listen: Listener) -> tuple[Stopped, ...]:
    """Stop deployments (none named: all), with proof that processes, port and GPU memory are free."""
    results = call(link, "stop", "stop", {"names": names}, listen)
    return tuple(Stopped(**{**result, "strangers": tuple(result.get("strangers", ()))}) for result in results)
