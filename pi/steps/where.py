"""Which pod a task works on, and the one link to it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pi import config, screen
from pi.errors import BusyError, HostKeyError, InputError, UnreachableError, UnwrittenError
from pi.pods import state
from pi.pods.types import Pod, State
from pi.ssh import connection, target
from pi.ssh.link import CAUSES, Link

KNOWN_HOSTS = "known_hosts"


@contextmanager
def targeted(c: Any, pod_name: str | None = None) -> Iterator[tuple[Pod, Link]]:
    """The pod and an open link to it: `--pod`, else the connection of `fab -H`, else the active pod."""
    pod = chosen(c, pod_name)
    with linked(c, pod, named=pod_name is not None) as link:
        yield pod, link


def chosen(c: Any, pod_name: str | None = None) -> Pod:
    """The pod that a task works on: `--pod`, else that of the connection of `fab -H`, else the active one."""
    known = state.load()
    if pod_name is None and under_fab(c):
        return _of_connection(known, c)
    return known.pod(pod_name)


@contextmanager
def linked(
    c: Any,
    pod: Pod,
    *,
    named: bool,
    new_host_key: bool = False,
    meanwhile: Callable[[], object] = lambda: None,
) -> Iterator[Link]:
    """An open link to a pod. A host key that is seen for the first time is told.

    `named` says that the user named the pod or the way to it, which may be another than the connection of `fab -H`
    leads to; that connection is used otherwise. `meanwhile` is called when the pod is about to be waited for.
    """
    hosts = config.config_dir() / KNOWN_HOSTS
    try:
        if under_fab(c) and not named:
            meanwhile()
            link = connection.adopt(c, hosts, pinned=pod.host_key, new_host_key=new_host_key)
        else:
            place = target.parse(pod.ssh)
            link = connection.open_link(
                place, hosts, pinned=pod.host_key, new_host_key=new_host_key, meanwhile=meanwhile
            )
    except UnreachableError as error:
        raise unreachable(pod, error) from None
    except HostKeyError as error:
        raise _other_key(pod, error) from None
    if link.accepted_key:
        _tell_new_key(pod, link)
    try:
        yield link
    except UnreachableError as error:
        raise unreachable(pod, error) from None
    finally:
        link.close()


def _tell_new_key(pod: Pod, link: Link) -> None:
    for file, numbers in link.unread_hosts.items():
        lines = ("line " if len(numbers) == 1 else "lines ") + ", ".join(map(str, numbers[:10]))
        screen.note(f"{lines} of {file} cannot be read and {'counts' if len(numbers) == 1 else 'count'} for nothing")
    screen.note(f"host key {link.accepted_key} of {pod.name}, seen for the first time and remembered")


@contextmanager
def noted(done: str, way_on: str) -> Iterator[None]:
    """Writing down what the pod has done already: a failure says that it is done, why it is not written, the way on."""
    try:
        yield
    except (InputError, BusyError) as error:
        raise UnwrittenError(done, error, way_on) from None


def unreachable(pod: Pod, error: UnreachableError) -> UnreachableError:
    """The same failure with the pod's name and the two ways on."""
    ways = [error.hint or f"check the connection ({pod.ssh})"]
    if pod.name in state.load().pods:
        ways.append(f"if the pod is gone: pi pods remove {pod.name}{' --force' if pod.models else ''}")
    return UnreachableError(f"pod {pod.name!r} cannot be reached: {error.message}", ", or, ".join(ways))


def _other_key(pod: Pod, error: HostKeyError) -> HostKeyError:
    """The same failure with the pod's name, and with pi's own way on where there is one."""
    hint = error.hint
    if error.replaceable:
        command = pod.name if pod.name in state.load().pods else f"{pod.name} {shlex.quote(pod.ssh)}"
        hint = f"{CAUSES}; if it is a new pod: pi pods setup {command} --new-host-key"
    return HostKeyError(f"pod {pod.name!r}: {error.message}", hint, error.replaceable)


def under_fab(c: Any) -> bool:
    """Whether the context is a Fabric connection, as `fab -H` passes it."""
    return hasattr(c, "transport")


def ssh_of(c: Any) -> str:
    """The ssh command that leads where a Fabric connection does."""
    return f"ssh {c.user}@{c.host}" + (f" -p {c.port}" if c.port != 22 else "")


def _of_connection(known: State, c: Any) -> Pod:
    for pod in known.pods.values():
        place = target.parse(pod.ssh)
        if isinstance(place, target.SshTarget):
            route = connection.resolve(place)
            if (route.host, route.port, route.user) == (c.host, c.port, c.user):
                return pod
    raise InputError(f"{c.user}@{c.host}:{c.port} is not among your pods", f'add it: pi pods setup NAME "{ssh_of(c)}"')
