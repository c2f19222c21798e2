"""The pod's firewall, for a model that spans pods: ports between its ranks take any caller, and unpickle what comes.

One nftables table for each home drops new TCP connections to this pod. It lets pass the addresses of the model's pods,
the ports that the network reached before the first such model, and the guarded ports. Open connections go on.
"""

from __future__ import annotations

from typing import List, Optional


def objection() -> Optional[str]:
    """Return why pi may not set rules here, such as "it has no nft", or None. Changes nothing."""
    raise NotImplementedError


def close(name: str, members: List[str], port: int) -> Optional[str]:
    """Let only these addresses reach the ports of a model's rank; everyone reaches its guarded `port`.

    Call it before the rank starts, under the pod's lock, when the run folder exists. Several models share one table.
    Returns why it failed, and then nothing has changed, or None.
    """
    raise NotImplementedError


def is_closed(name: str) -> bool:
    """Return whether the rules of this model stand in the kernel, unchanged."""
    raise NotImplementedError


def admit(port: int) -> None:
    """Let everyone reach the guarded port of another model, if a table stands. Call it when that model starts."""
    raise NotImplementedError


def reopen(name: str) -> Optional[str]:
    """Remove the rules of a model; the table goes with its last one. Returns why it failed, or None.

    Works before and after the model's run folder is deleted, and without rules it does nothing.
    """
    raise NotImplementedError
