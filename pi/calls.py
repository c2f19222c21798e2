"""One call to a pod: how `pi.pod` gets there, the events that come back, and a failure in pi's words.

A call sends one constant command, then on stdin the program, the request and (for `start`) pi's plan. No
user's text and no secret is ever part of a command line. Long work keeps a journal on the pod: when the
connection is lost the work goes on, and pi connects again and follows it from where it was.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib.resources import files
from typing import Any

from pi.audit import who
from pi.connection import GATEWAY, Link, Silence, Stream
from pi.errors import (
    BusyError,
    Interrupted,
    LeftRunning,
    NotReadyError,
    PiError,
    RemoteError,
    UnprovenError,
    UnreachableError,
)
from pi.events import Event, Reader
from pi.failures import explain
from pi.pod.pace import paced
from pi.redaction import redacted
from pi.text import one_line

SILENCE_S = 20
"""A pod sends a heartbeat each 5 s (`pi.pod.wire`); this much silence is a lost connection."""

RECONNECTS = 5
"""How often a lost connection is made again, after 1, 2, 3, ... s, before pi gives up."""

MODULES = (
    "pace",
    "process",
    "redact",
    "journal",
    "wire",
    "audit",
    "follow",
    "records",
    "gpus",
    "hub",
    "storage",
    "survey",
    "health",
    "logs",
    "download",
    "start",
    "stop",
    "status",
    "setup",
)
"""Modules of `pi.pod` in the order in which they import each other."""

NO_BASH = "pi-found-no-bash"
NO_PYTHON = "pi-found-no-python"

FIND_BASH = (
    'command -v bash >/dev/null 2>&1 || export PATH="$PATH:/usr/local/bin:/usr/bin:/bin"; '
    f"command -v bash >/dev/null 2>&1 || {{ echo {NO_BASH}; exit 127; }}; "
)
"""The pod's own scripts need one; a PATH in which there is none is no PATH."""

RUN = 'exec "$p" -I -S -X utf8 -c "import sys;i=sys.stdin.buffer;exec(i.read(int(i.readline())))"'
FIND_PYTHON = f'for p in "$HOME/venv/bin/python" python3; do command -v "$p" >/dev/null 2>&1 && {RUN}; done; '
INSTALL_PYTHON = (
    'command -v python3 >/dev/null 2>&1 || { s=; [ "$(id -u)" = 0 ] || s="sudo -n"; '
    "echo installing python3 with apt-get; while sleep 5 && echo .; do :; done & "
    "export DEBIAN_FRONTEND=noninteractive; $s apt-get -qq update; "
    "$s apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends python3; kill $!; } >&2; "
)
"""Says something all the while, since silence means a lost connection."""

SHED = "unset HF_TOKEN HUGGING_FACE_HUB_TOKEN PI_API_KEY VLLM_API_KEY OPENAI_API_KEY; "
"""A login shell may have them of setup's file, or (`local`) of the user; what pi runs takes them from their files."""

Listener = Callable[[Event], None]


def _shell_command(preparation: str = "") -> str:
    """The whole command line of a call; free of single quotes inside, so that any login shell passes it on.

    A /bin/sh that is given its command reads no start-up file.
    """
    return f"exec /bin/sh -c '{SHED}{FIND_BASH}{preparation}{FIND_PYTHON}echo {NO_PYTHON}; exit 127'"


@cache
def _program() -> str:
    """Python source that makes `pi.pod` out of its modules' texts, runs one verb of it and ends."""
    sources = [(f"pi.pod.{name}", (files("pi.pod") / f"{name}.py").read_text("utf-8")) for name in MODULES]
    return "\n".join(
        [
            "import json, sys, types",
            f"for name, source in {[('pi', ''), ('pi.pod', ''), *sources]!r}:",
            "    module = sys.modules[name] = types.ModuleType(name)",
            "    exec(compile(source, name, 'exec'), module.__dict__)",
            "call = json.loads(sys.stdin.buffer.readline())",
            "verb = getattr(sys.modules['pi.pod.' + call['module']], call['verb'])",
            "sys.modules['pi.pod.wire'].run(verb, call['mark'], call['request'], call['journal'])",
        ]
    )


class ConnectionLost(UnreachableError):
    """The stream of a call ended, or fell silent, before the call did."""


class Call:
    """One verb at work on a pod from `begin` on: its events, and the answers that it waits for.

    `journal` names the call on the pod, where it keeps a journal; `received` counts the events that arrived.
    """

    def __init__(
        self,
        link: Link,
        module: str,
        verb: str,
        request: dict[str, Any],
        preparation: str = "",
        journal: str | None = None,
    ) -> None:
        self.journal = journal
        self.received = 0
        self.has_begun = False
        self._is_prepared = bool(preparation)
        mark = secrets.token_hex(12)
        self._reader = Reader(mark)
        request = {**request, "who": who()}
        self._call = {"module": module, "verb": verb, "mark": mark, "request": request, "journal": journal}
        self._stream: Stream = link.run(_shell_command(preparation))

    def begin(self) -> None:
        program = _program().encode()
        with suppress(UnreachableError):  # a shell that ends at once has said why, which `events` tells
            self._stream.send(b"%d\n%s%s\n" % (len(program), program, json.dumps(self._call).encode()))

    def answer(self, message: dict[str, Any]) -> None:
        with suppress(UnreachableError):  # `events` tells that the connection is lost
            self._stream.send(json.dumps(message).encode() + b"\n")

    def events(self) -> Iterator[Event]:
        """Events up to and with the one that ends the call: `done`, `failed` or `cancelled`. Raises ConnectionLost."""
        while True:
            try:
                chunk = self._stream.receive(paced(SILENCE_S))
            except Silence:
                raise ConnectionLost(f"the pod has been silent for {SILENCE_S} s; the connection is lost") from None
            except (OSError, EOFError):
                chunk = b""
            if not chunk:
                raise self._cut_off()
            for event in self._reader.feed(chunk):
                self.has_begun = True
                if event.kind != "alive":
                    self.received += 1
                    yield event
                if event.kind in ("done", "failed", "cancelled"):
                    return

    def cancel(self) -> Event:
        """Have the pod end what this call started; the event that closed the call."""
        self.answer({"cancel": True})
        *_, last = self.events()
        return last

    def close(self) -> None:
        self._stream.close()

    def _cut_off(self) -> PiError:
        noise = redacted(self._reader.noise.decode("utf-8", "replace")).strip()
        lines = [line for line in noise.splitlines() if line.strip(". ")]
        if NO_BASH in noise:
            return RemoteError("the pod has no bash", "install bash there, then run the setup")
        if NO_PYTHON in noise and self._is_prepared:
            told = one_line(next((line for line in reversed(lines) if NO_PYTHON not in line), "no reason given"), 300)
            return RemoteError(
                f"the pod has no python3, and it could not be installed: {told}",
                "as root on the pod: apt-get install -y python3; then run the setup again",
            )
        if NO_PYTHON in noise:
            return RemoteError("the pod has no python3", 'set it up first: pi pods setup NAME "ssh ..."')
        if self.has_begun or (status := self._stream.exit_status()) is None:
            return ConnectionLost(f"the pod ended the call: {lines[-1][:300] if lines else 'the connection was lost'}")
        told = lines[-1][:300] if lines else f"its shell ended with status {status} and without a word"
        return UnreachableError(
            f"the pod ended the call: {told}", f"{GATEWAY}; if it is none, look for an exit in the account's ~/.bashrc"
        )


class _Follower(Call):
    """Another call's work, taken up over a new connection."""

    def __init__(self, link: Link, lost: Call) -> None:
        super().__init__(link, "follow", "follow", {"call": lost.journal, "after": lost.received})
        self.journal = lost.journal
        self.received = lost.received
        self.has_begun = True


def call(
    link: Link,
    module: str,
    verb: str,
    request: dict[str, Any],
    listen: Listener = lambda event: None,
    *,
    decide: Callable[[Event, Call], None] | None = None,
    preparation: str = "",
    outlives: bool = False,
    leave: Callable[[], bool] = lambda: False,
) -> Any:
    """Run one verb of `pi.pod` and return its result.

    `listen` is told every event, `decide` answers a `survey`. A failure is raised as the PiError that its kind
    calls for. Ctrl+C ends the work on the pod and raises Interrupted, or leaves it where `leave()` says so and
    raises LeftRunning.
    With `outlives`, a lost connection is made again and the work, which went on, is followed to its end.
    """
    running = Call(link, module, verb, request, preparation, secrets.token_hex(12) if outlives else None)
    is_lost = False
    try:
        running.begin()
        while True:
            try:
                return _followed(running, listen, decide)
            except ConnectionLost:
                if not (running.journal and running.has_begun):
                    raise
                is_lost = True
                running.close()
                running = _taken_up(link, running, listen)
                is_lost = False
    except KeyboardInterrupt as stop:
        if is_lost:
            message = "interrupted while the connection was lost; what runs on the pod goes on (pi list shows it)"
            raise LeftRunning(message, *stop.args) from None
        if leave():
            raise LeftRunning("interrupted; what runs on the pod goes on", *stop.args) from None
        last = running.cancel()
        if last.kind == "done":
            return last["result"]
        raise Interrupted("interrupted; what ran on the pod has been ended", *stop.args) from None
    finally:
        running.close()


def _followed(running: Call, listen: Listener, decide: Callable[[Event, Call], None] | None) -> Any:
    for event in running.events():
        if event.kind == "survey" and decide:
            decide(event, running)
        listen(event)
        if event.kind == "done":
            return event["result"]
        if event.kind == "failed":
            raise _error(event)
    raise Interrupted("stopped; what ran on the pod has been ended")


def _taken_up(link: Link, lost: Call, listen: Listener) -> Call:
    """The same work over a new connection. Raises UnreachableError when none can be made."""
    for attempt in range(1, RECONNECTS + 1):
        listen(Event("reconnecting", {"attempt": attempt, "of": RECONNECTS}))
        time.sleep(paced(attempt))
        with suppress(UnreachableError):
            link.reopen()
            taken_up = _Follower(link, lost)
            taken_up.begin()
            listen(Event("reconnected", {}))
            return taken_up
    raise UnreachableError(
        f"the connection was lost and {RECONNECTS} tries to make it again failed; the work on the pod goes on",
        "when it is back: pi list shows what came of it",
    )


def _error(event: Event) -> PiError:
    """The failure of a pod in pi's words: the cause from the log where there is one, and the way on."""
    kind, message, detail = event["kind"], event["message"], event["detail"]
    if kind in ("busy", "name_taken"):
        return BusyError(message, "pi list shows what runs; pi stop NAME frees it")
    if kind == "lost":
        return UnreachableError(message)
    if kind == "killed":
        return UnprovenError(message, "pi list shows what is left; run it again to go on")
    if kind in ("exited", "launch_failed"):
        from pi.plans import VENV
        from pi.venvs import is_beside

        venv = detail.get("venv")
        failure = explain(detail["log"], detail.get("exit"), venv if is_beside(venv) else VENV)
        return NotReadyError(failure.cause, _with_log(failure.hint, detail))
    if kind == "timeout":
        lines = detail["log"].strip().splitlines()
        last = one_line(lines[-1], 300) if lines else "nothing"
        return NotReadyError(
            f"{message}; its log ends with: {last}", _with_log("--timeout SECONDS waits longer", detail)
        )
    if kind == "not_ours":
        return NotReadyError(f"{message}; {detail['name']} is stopped", _with_log(None, detail))
    if kind in ("unkillable", "not_free"):
        return RemoteError(message, f"reboot the pod, or once it is free: pi stop {detail['name']}")
    if kind == "disk_full":
        return RemoteError(
            message, 'free space, or keep models on another disk: pi pods setup NAME "ssh ..." --models-path PATH'
        )
    if kind == "storage":
        return RemoteError(
            message, 'on the pod, as root: umount -l that folder; then mount it again: pi pods setup NAME --mount "..."'
        )
    if kind == "download_failed":
        failure = explain(detail["log"], None)
        return RemoteError(f"the download failed: {failure.cause}", failure.hint)
    if kind == "setup_failed":
        return SetupError(detail["step"], message, detail["tail"])
    if kind == "unexpected":
        where = f"pi's own program failed on the pod ({detail['at']})"
        return UnprovenError(f"{where}: {message}", "please report this; pi list shows what is left")
    return RemoteError(message)


def _with_log(hint: str | None, detail: dict[str, Any]) -> str:
    """The way on, and where vLLM's whole log is."""
    name = detail["name"]
    return (f"{hint}\n  " if hint else "") + f"the whole log: pi logs {name} (~/.vllm_logs/{name}.log on the pod)"


class SetupError(RemoteError):
    """A step of the setup failed; `tail` holds its last lines of output."""

    def __init__(self, step: str, message: str, tail: list[str]) -> None:
        cause, _, way_on = message.partition(" -- ")
        super().__init__(f"setup failed at step {step!r}: {cause}", way_on or "mend it, then run the setup again")
        self.step = step
        self.tail = tail
