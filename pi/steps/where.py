"""Choose the pod that a task works on, and open the link to it."""

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
    """Yield the chosen pod and an open link to it."""
    pod = chosen(c, pod_name)
    with linked(c, pod, named=pod_name is not None) as link:
        yield pod, link


def chosen(c: Any, pod_name: str | None = None) -> Pod:
    """Return the pod of `--pod`, else of the connection of `fab -H`, else the active pod."""
    saved = state.load()
    if pod_name is None and under_fab(c):
        return _of_connection(saved, c)
    return saved.pod(pod_name)


@contextmanager
def linked(
    c: Any,
    pod: Pod,
    *,
    named: bool,
    new_host_key: bool = False,
    meanwhile: Callable[[], object] = lambda: None,
) -> Iterator[Link]:
    """Yield an open link to a pod; print a host key that is new.

    The connection of `fab -H` is used unless the user named the pod or its ssh command (`named`), which may
    connect elsewhere. `meanwhile` is called just before the wait for the pod.
    """
    try:
        link = _open(c, pod, named, new_host_key, meanwhile)
    except UnreachableError as error:
        raise unreachable(pod, error) from None
    except HostKeyError as error:
        raise _changed_key(pod, error) from None
    if link.accepted_key:
        _show_new_key(pod, link)
    try:
        yield link
    except UnreachableError as error:
        raise unreachable(pod, error) from None
    finally:
        link.close()


def _open(c: Any, pod: Pod, named: bool, new_host_key: bool, meanwhile: Callable[[], object]) -> Link:
    hosts = config.config_dir() / KNOWN_HOSTS
    if under_fab(c) and not named:
        meanwhile()
        return connection.adopt(c, hosts, pinned=pod.host_key, new_host_key=new_host_key)
    parsed = target.parse(pod.ssh)
    return connection.open_link(parsed, hosts, pinned=pod.host_key, new_host_key=new_host_key, meanwhile=meanwhile)


def _show_new_key(pod: Pod, link: Link) -> None:
    for file, numbers in link.unread_hosts.items():
        lines = ("line " if len(numbers) == 1 else "lines ") + ", ".join(map(str, numbers[:10]))
        screen.note(f"ignoring {lines} of {file}: cannot parse {'it' if len(numbers) == 1 else 'them'}")
    screen.note(f"trusting new host key {link.accepted_key} for {pod.name}")


@contextmanager
def saving(done: str, hint: str) -> Iterator[None]:
    """Update pods.json after the pod did its work. Raises UnwrittenError, which says both, if that fails."""
    try:
        yield
    except (InputError, BusyError) as error:
        raise UnwrittenError(done, error, hint) from None


def unreachable(pod: Pod, error: UnreachableError) -> UnreachableError:
    """Return the same failure with the pod's name and both next steps."""
    hints = [error.hint or f"check the connection ({pod.ssh})"]
    if pod.name in state.load().pods:
        hints.append(f"if the pod is gone: pi pods remove {pod.name}{' --force' if pod.models else ''}")
    return UnreachableError(error.id, f"cannot reach pod {pod.name!r}: {error.message}", ", or, ".join(hints))


def _changed_key(pod: Pod, error: HostKeyError) -> HostKeyError:
    """Return the same failure with the pod's name, and with pi's own fix if there is one."""
    hint = error.hint
    if error.replaceable:
        command = pod.name if pod.name in state.load().pods else f"{pod.name} {shlex.quote(pod.ssh)}"
        hint = f"{CAUSES}; if it is a new pod: pi pods setup {command} --new-host-key"
    return HostKeyError(error.id, f"pod {pod.name!r}: {error.message}", hint, error.replaceable)


def under_fab(c: Any) -> bool:
    """Return whether the context is a Fabric connection, as `fab -H` passes it."""
    return hasattr(c, "transport")


def ssh_of(c: Any) -> str:
    """Return the ssh command for a Fabric connection."""
    return f"ssh {c.user}@{c.host}" + (f" -p {c.port}" if c.port != 22 else "")


def _of_connection(saved: State, c: Any) -> Pod:
    for pod in saved.pods.values():
        parsed = target.parse(pod.ssh)
        if isinstance(parsed, target.SshTarget):
            route = connection.resolve(parsed)
            if (route.host, route.port, route.user) == (c.host, c.port, c.user):
                return pod
    raise InputError(
        "host-not-a-pod",
        f"{c.user}@{c.host}:{c.port} is not one of your pods",
        f'add it: pi pods setup NAME "{ssh_of(c)}"',
    )
