"""Keep tunnels to the models of one pod open, and start them in the background."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pi import config, screen
from pi.errors import InputError, NotReadyError, PiError, RemoteError, UnreachableError
from pi.pods import state
from pi.pods.types import Pod
from pi.steps import own_process, tunnels, where
from pi.steps.tunnels import Tunnel

if TYPE_CHECKING:
    from pi.ssh.connection import Connection

OPEN_PATIENCE_S = 30

POLL_S = 0.1

LONGEST_PAUSE_S = 15
"""Longest time between two tries to connect again."""

SECRETS = ("PI_API_KEY", "HF_TOKEN")
"""Variables that a tunnel in the background does not need."""


def serve(c: Any, pod: Pod, opened: Sequence[Tunnel], *, is_named: bool) -> None:
    """Keep the tunnels open until Ctrl+C, and connect again by itself.

    Raises the error of the first connection. Later ones are printed, except that of a changed host key.
    """
    with ExitStack() as claims:
        for tunnel in opened:
            claims.enter_context(tunnels.claimed(tunnel))
        failures, was_up = 0, False
        while True:
            try:
                with where.connected(c, pod, named=is_named) as connection:
                    words = connection.forward_words([(each.port, each.remote) for each in opened])
                    _warn_if_silent(connection, () if was_up else opened)
                with _running(words) as process:
                    if _wait_until_up(process, opened):
                        _announce(opened, is_first=not was_up)
                        failures, was_up = 0, True
                        process.wait()
            except UnreachableError as error:
                if not was_up:
                    raise
                screen.note(error.render())
            if not was_up:
                raise UnreachableError("tunnel-failed", f"ssh opened no tunnel to {pod.name}")
            failures += 1
            pause = min(failures, LONGEST_PAUSE_S)
            screen.note(f"lost the connection to {pod.name}; connecting again in {pause} s")
            time.sleep(pause)
            pod, is_named = state.load().pod(pod.name), True


@contextmanager
def _running(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run ssh, which ends if this process does: its stdin is then closed."""
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(2)
        process.kill()
        process.wait()


def _warn_if_silent(connection: Connection, opened: Sequence[Tunnel]) -> None:
    """Print which models do not listen yet. Raises UnreachableError if the SSH server allows no tunnels."""
    for tunnel in opened:
        try:
            connection.dial(tunnel.remote).close()
        except ConnectionRefusedError:
            screen.note(f"note: {tunnel.model} does not answer on {tunnel.pod} now; the tunnel waits for it")


def _wait_until_up(process: subprocess.Popen[bytes], opened: Sequence[Tunnel]) -> bool:
    deadline = time.monotonic() + OPEN_PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        if all(tunnel.is_up() for tunnel in opened):
            return True
        time.sleep(POLL_S)
    return False


def _announce(opened: Sequence[Tunnel], *, is_first: bool) -> None:
    if not is_first:
        screen.note("connected again")
        return
    for tunnel in opened:
        screen.say(f"{tunnel.model} on {tunnel.pod} is at {tunnel.url}")


def open_in_background(pod: Pod, name: str, remote: int, given: int | None = None) -> tuple[Tunnel, bool]:
    """Return the open tunnel of a model, and whether it was open before. Raises RemoteError if it does not open."""
    there = tunnels.opened_to(pod.name, name)
    if there and there.remote != remote:  # the model was started again since
        tunnels.close(there)
        there = None
    wanted = there or Tunnel(pod.name, name, tunnels.port_for(pod.name, name, remote, given), remote)
    if there is None:
        start_in_background(pod, wanted)
    return wanted, there is not None


def start_in_background(pod: Pod, wanted: Tunnel) -> None:
    """Start a tunnel as a process of its own, and return when it is up. Raises RemoteError with its last words."""
    log = tunnels.log_path(wanted.pod, wanted.model)
    try:
        config.make_private(log.parent)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        own_process.require_room(output)
    except OSError as error:
        raise InputError("tunnel-file-unwritable", f"cannot write {log}: {error.strerror}") from None
    kept = {name: value for name, value in os.environ.items() if name not in SECRETS}
    try:
        process = own_process.start(
            ["tunnel", wanted.model, "--pod", pod.name, "--port", str(wanted.port)], output, kept
        )
    finally:
        os.close(output)
    _wait_for(process, lambda: wanted.is_up() and tunnels.opened_to(wanted.pod, wanted.model) is not None, wanted)


def _wait_for(process: subprocess.Popen[bytes], is_up: Callable[[], bool], wanted: Tunnel) -> None:
    deadline = time.monotonic() + 2 * OPEN_PATIENCE_S
    while not is_up():
        if process.poll() is not None:
            raise _failure(wanted, process.returncode)
        if time.monotonic() > deadline:
            process.terminate()
            raise NotReadyError("tunnel-late", f"the tunnel to {wanted.model} is not up after {2 * OPEN_PATIENCE_S} s")
        time.sleep(POLL_S)


def _failure(wanted: Tunnel, code: int) -> PiError:
    """Return the error of a tunnel in the background, with its words and exit code."""
    text = tunnels.log_path(wanted.pod, wanted.model).read_text("utf-8", "replace")
    first, _, rest = text.rpartition("pi: ")[2].strip().partition("\n")
    error = RemoteError("tunnel-failed", first or f"the tunnel ended with status {code}", rest.strip() or None)
    error.exit_code = code if 0 < code < 128 else 1
    return error
