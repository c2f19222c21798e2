"""The base URL of a model for clients on this machine."""

from __future__ import annotations

from typing import Any

from pi import web
from pi.errors import InputError, NotReadyError
from pi.pods.types import Pod
from pi.ssh import target
from pi.steps import listing, reconcile, states, tunnels, where
from pi.steps.states import Listed


def base_url(c: Any, pod: Pod, name: str, *, is_named: bool) -> str:
    """Return where clients find a model, or one of its adapters: a tunnel on this machine, else the pod itself.

    Raises InputError for an unknown or private model, and NotReadyError if it does not run.
    """
    model = pod.serving(name)
    tunnel = tunnels.opened_to(pod.name, model.name) if model else None
    if model and tunnel and tunnel.remote == model.port:
        return tunnel.url
    found = running(c, pod, name, is_named=is_named)
    if found.url is None:
        raise InputError(
            "model-private",
            f"{name} listens on the pod's loopback only",
            f"open a tunnel: pi tunnel {name}{where.flag_for(pod.name)} --background",
        )
    return found.url


def running(c: Any, pod: Pod, name: str, *, is_named: bool) -> Listed:
    """Return a model, or the one with this adapter, as the pod reports it.

    Raises InputError for an unknown model, and NotReadyError if it does not run.
    """
    with where.connected(c, pod, named=is_named) as connection:
        seen = listing.see(pod, connection)
    models = states.listed(pod, seen.status, seen.host)
    reconcile.reconcile(pod, seen.status)
    found = next((each for each in models if name in (each.model.name, *each.model.adapters)), None)
    if found is None:
        raise where.unknown_model(name, pod, [each.model.name for each in models])
    if found.state != "running":
        raise NotReadyError("not-running", f"{name} does not run on {pod.name}; it is {found.sentence}", "see: pi list")
    return found


def reached(pod: Pod, found: Listed) -> str | None:
    """Return the URL at which this machine reaches a running model now: an open tunnel, or the pod; else None."""
    model = found.model
    opened = tunnels.opened_to(pod.name, model.name)
    if opened and opened.remote == model.port:
        return opened.url
    if isinstance(target.parse(pod.ssh), target.LocalTarget):
        return f"http://{tunnels.LOOPBACK}:{model.port}/v1"
    return found.url if found.url and web.answers(found.url) else None
