"""Choose the pod that a task works on, and open the link to it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pi import config, screen
from pi.errors import BusyError, HostKeyError, InputError, UnreachableError, UnwrittenError
from pi.pods import state
from pi.pods.types import Pod, State
from pi.ssh import openssh, target
from pi.ssh.hostkeys import CAUSES
from pi.text import one_line

if TYPE_CHECKING:
    from pi.ssh.connection import Connection


@contextmanager
def targeted(c: Any, pod_name: str | None = None) -> Iterator[tuple[Pod, Connection]]:
    """Yield the chosen pod and its open connection."""
    pod = chosen(c, pod_name)
    with connected(c, pod, named=pod_name is not None) as connection:
        yield pod, connection


def chosen(c: Any, pod_name: str | None = None) -> Pod:
    """Return the pod of `--pod`, else of the connection of `fab -H`, else the active pod."""
    saved = state.load()
    if pod_name is None and under_fab(c):
        return _of_connection(saved, c)
    return saved.pod(pod_name)


@dataclass(frozen=True)
class Chosen:
    """The pods that a verb works on; `is_named` if the user named them."""

    pods: tuple[Pod, ...]
    is_named: bool = False


def several(c: Any, names: str | None, every: bool) -> Chosen:
    """Return the pods of `--pod a,b` or `--all-pods`, or the one pod of `chosen`."""
    saved = state.load()
    if every:
        if not saved.pods:
            saved.pod()
        return Chosen(tuple(saved.pods.values()), True)
    if names is None:
        return Chosen((chosen(c),))
    listed = dict.fromkeys(name.strip() for name in names.split(","))
    return Chosen(tuple(saved.pod(name) for name in listed), True)


@contextmanager
def connected(
    c: Any,
    pod: Pod,
    *,
    named: bool,
    new_host_key: bool = False,
    fresh: bool = False,
    meanwhile: Callable[[], object] = lambda: None,
) -> Iterator[Connection]:
    """Yield the open connection of a pod; print a host key that is new.

    The address of `fab -H` is used unless the user named the pod or its ssh command (`named`), which may lead
    elsewhere. `fresh` takes no connection that is already open. `meanwhile` is called during the wait for the pod.
    """
    try:
        connection = _open(c, pod, named, new_host_key, fresh, meanwhile)
    except UnreachableError as error:
        raise unreachable(pod, error) from None
    except HostKeyError as error:
        raise changed_key(pod, error) from None
    if connection.accepted_key:
        screen.note(f"trusting new host key {connection.accepted_key} for {pod.name}")
    if connection.remark:
        screen.note(connection.remark)
    try:
        yield connection
    except UnreachableError as error:
        raise unreachable(pod, error) from None
    finally:
        connection.close()


def flag_for(pod_name: str) -> str:
    """Return the flag that leads a command to a pod, with a blank before it; "" for the active one."""
    return "" if state.load().active == pod_name else f" --pod {pod_name}"


def connection_to(pod_name: str | None = None) -> Connection:
    """Return the connection of a pod (default: the active one), which opens on first use."""
    pod = state.load().pod(pod_name)
    return _fabric_connection(openssh.way_to(target.parse(pod.ssh), config.config_dir(), pod.host_key))


def _open(
    c: Any, pod: Pod, named: bool, new_host_key: bool, fresh: bool, meanwhile: Callable[[], object]
) -> Connection:
    parsed = target.of_connection(c) if under_fab(c) and not named else target.parse(pod.ssh)
    way = openssh.way_to(parsed, config.config_dir(), pod.host_key)
    if new_host_key:
        way.forget_host_key()
    way.start(fresh=fresh)
    try:
        connection = _fabric_connection(way, meanwhile)
        connection.open()
        return connection
    except BaseException:
        way.close()
        raise


def _fabric_connection(way: openssh.Way, meanwhile: Callable[[], object] = lambda: None) -> Connection:
    """Import Fabric, while ssh connects if it has been started, and then do what else there is to do `meanwhile`."""
    from pi.ssh.connection import Connection  # noqa: PLC0415 - imports Fabric

    meanwhile()
    return Connection(way)


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
    if pod.ends_by:
        may_have = f"it may have ended itself (--on-idle {one_line(pod.ends_by, 60)}); start it at its provider"
        hints.insert(0, may_have)
    if _is_saved(pod):
        hints.append(f"if the pod is gone: pi pods remove {pod.name}{' --force' if pod.models else ''}")
    return UnreachableError(error.id, f"cannot reach pod {pod.name!r}: {error.message}", ", or, ".join(hints))


def unknown_model(name: str, pod: Pod, names: Iterable[str] | None = None) -> InputError:
    """Return the error for a name that no model of a pod has. `names` are its models, by default those of pods.json."""
    others = [other.name for other in state.load().pods.values() if other.name != pod.name and other.serving(name)]
    listed = ", ".join(pod.models if names is None else names) or "none"
    hint = f"it is on {' and '.join(others)}: add --pod {others[0]}" if others else f"it has {listed}; see: pi list"
    return InputError("unknown-name", f"no model {name!r} on {pod.name}", hint)


def changed_key(pod: Pod, error: HostKeyError) -> HostKeyError:
    """Return the same failure with the pod's name, and with pi's own fix if there is one."""
    hint = error.hint
    if error.replaceable:
        command = pod.name if _is_saved(pod) else f"{pod.name} {shlex.quote(pod.ssh)}"
        hint = f"{CAUSES}; if it is a new pod: pi pods setup {command} --new-host-key"
    return HostKeyError(error.id, f"pod {pod.name!r}: {error.message}", hint, error.replaceable)


def label(pod: Pod) -> str:
    """Return the pod's address for a message, and print which words of its ssh command have no effect."""
    parsed = target.parse(pod.ssh)
    for notice in getattr(parsed, "notices", ()):
        screen.note(notice)
    return parsed.label


def _is_saved(pod: Pod) -> bool:
    """Return whether pods.json has the pod, at this address."""
    saved = state.load().pods.get(pod.name)
    return saved is not None and saved.ssh == pod.ssh


def under_fab(c: Any) -> bool:
    """Return whether the context is a Fabric connection, as `fab -H` passes it."""
    return hasattr(c, "transport")


def ssh_of(c: Any, pod_name: str = "") -> str:
    """Return the ssh command for a Fabric connection: the saved one of the pod, if that leads to the same address."""
    saved = state.load().pods.get(pod_name)
    if saved and _leads_to(saved, c):
        return saved.ssh
    return f"ssh {c.user}@{c.host}" + (f" -p {c.port}" if c.port != 22 else "")


def _leads_to(pod: Pod, c: Any) -> bool:
    parsed = target.parse(pod.ssh)
    return isinstance(parsed, target.SshTarget) and openssh.address(parsed) == (c.host, c.port, c.user)


def _of_connection(saved: State, c: Any) -> Pod:
    for pod in saved.pods.values():
        if _leads_to(pod, c):
            return pod
    raise InputError(
        "host-not-a-pod",
        f"{c.user}@{c.host}:{c.port} is not one of your pods",
        f'add it: pi pods setup NAME "{ssh_of(c)}"',
    )
