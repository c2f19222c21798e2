"""One call to a pod: how `pi.pod` gets there, the events that come back, and a failure in pi's words.

A call sends one constant command, then on stdin the program, the request and (for `start`) pi's plan. No
user's text and no secret is ever part of a command line.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib.resources import files
from typing import Any

from pi.connection import Link, Silence, Stream
from pi.errors import BusyError, Interrupted, NotReadyError, PiError, RemoteError, UnreachableError
from pi.events import Event, Reader
from pi.failures import explain

SILENCE_S = 20
"""A pod sends a heartbeat each 5 s (`pi.pod.wire`); this much silence is a lost connection."""

CANCEL_PATIENCE_S = 45
"""How long an interrupted call may take to end what it started on the pod."""

MODULES = (
    "wire",
    "process",
    "records",
    "hub",
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

RUN = 'exec "$p" -I -S -X utf8 -c "import sys;i=sys.stdin.buffer;exec(i.read(int(i.readline())))"'
FIND_PYTHON = f'for p in "$HOME/venv/bin/python" python3; do command -v "$p" >/dev/null 2>&1 && {RUN}; done; '
INSTALL_PYTHON = (
    'command -v python3 >/dev/null 2>&1 || { s=; [ "$(id -u)" = 0 ] || s="sudo -n"; '
    "echo installing python3 with apt-get; export DEBIAN_FRONTEND=noninteractive; "
    "$s apt-get -qq update && $s apt-get -qq install -y --no-install-recommends python3; } >&2; "
)
NO_PYTHON = "pi-found-no-python"

Listener = Callable[[Event], None]


def _shell_command(preparation: str = "") -> str:
    """The whole command line of a call; free of single quotes inside, so that any login shell passes it on."""
    return f"exec bash --noprofile --norc -c '{preparation}{FIND_PYTHON}echo {NO_PYTHON}; exit 127'"


@cache
def _program() -> str:
    """Python source that makes `pi.pod` out of its modules' texts, runs one verb of it and ends."""
    sources = [(f"pi.pod.{name}", (files("pi.pod") / f"{name}.py").read_text()) for name in MODULES]
    return "\n".join(
        [
            "import json, sys, types",
            f"for name, source in {[('pi', ''), ('pi.pod', ''), *sources]!r}:",
            "    module = sys.modules[name] = types.ModuleType(name)",
            "    exec(compile(source, name, 'exec'), module.__dict__)",
            "call = json.loads(sys.stdin.buffer.readline())",
            "verb = getattr(sys.modules['pi.pod.' + call['module']], call['verb'])",
            "sys.modules['pi.pod.wire'].run(verb, call['mark'], call['request'])",
        ]
    )


class Call:
    """One verb at work on a pod: its events, and the answers that it waits for."""

    def __init__(self, link: Link, module: str, verb: str, request: dict[str, Any], preparation: str = "") -> None:
        mark = secrets.token_hex(12)
        self._reader = Reader(mark)
        self._stream: Stream = link.run(_shell_command(preparation))
        program = _program().encode()
        message = json.dumps({"module": module, "verb": verb, "mark": mark, "request": request})
        with suppress(UnreachableError):  # a shell that ends at once has said why, which `events` tells
            self._stream.send(b"%d\n%s%s\n" % (len(program), program, message.encode()))

    def answer(self, message: dict[str, Any]) -> None:
        self._stream.send(json.dumps(message).encode() + b"\n")

    def events(self) -> Iterator[Event]:
        """Events up to and with the one that ends the call: `done`, `failed` or `cancelled`."""
        while True:
            try:
                chunk = self._stream.receive(SILENCE_S)
            except Silence:
                raise UnreachableError(f"the pod has been silent for {SILENCE_S} s; the connection is lost") from None
            except (OSError, EOFError):
                chunk = b""
            if not chunk:
                raise self._cut_off()
            for event in self._reader.feed(chunk):
                if event.kind != "alive":
                    yield event
                if event.kind in ("done", "failed", "cancelled"):
                    return

    def cancel(self) -> Event:
        """Have the pod end what this call started; the event that closed the call."""
        with suppress(PiError):
            self.answer({"cancel": True})
        *_, last = self.events()
        return last

    def close(self) -> None:
        self._stream.close()

    def _cut_off(self) -> PiError:
        noise = self._reader.noise.decode("utf-8", "replace").strip()
        if NO_PYTHON in noise:
            return RemoteError("the pod has no python3", 'set it up first: pi pods setup NAME "ssh ..."')
        last = noise.splitlines()[-1][:300] if noise else "the connection was lost"
        return UnreachableError(f"the pod ended the call: {last}")


def call(
    link: Link,
    module: str,
    verb: str,
    request: dict[str, Any],
    listen: Listener = lambda event: None,
    *,
    decide: Callable[[Event, Call], None] | None = None,
    preparation: str = "",
) -> Any:
    """Run one verb of `pi.pod` and return its result.

    `listen` is told every event, `decide` answers a `survey`. Ctrl+C ends the work on the pod, then raises
    Interrupted; a failure is raised as the PiError that its kind calls for.
    """
    running = Call(link, module, verb, request, preparation)
    try:
        for event in running.events():
            if event.kind == "survey" and decide:
                decide(event, running)
            listen(event)
            if event.kind == "done":
                return event["result"]
            if event.kind == "failed":
                raise _error(event)
        raise Interrupted("stopped; what ran on the pod has been ended")
    except KeyboardInterrupt as stop:
        last = running.cancel()
        if last.kind == "done":
            return last["result"]
        raise Interrupted("interrupted; what ran on the pod has been ended", *stop.args) from None
    finally:
        running.close()


def _error(event: Event) -> PiError:
    """The failure of a pod in pi's words: the cause from the log where there is one, and the way on."""
    kind, message, detail = event["kind"], event["message"], event["detail"]
    if kind in ("busy", "name_taken"):
        return BusyError(message, "pi list shows what runs; pi stop NAME frees it")
    if kind == "lost":
        return UnreachableError(message)
    if kind in ("exited", "launch_failed"):
        failure = explain(detail["log"], detail.get("exit"))
        return NotReadyError(failure.cause, failure.hint)
    if kind == "timeout":
        lines = detail["log"].strip().splitlines()
        return NotReadyError(f"{message}; its log ends with: {lines[-1][:300] if lines else 'nothing'}")
    if kind == "not_ours":
        return NotReadyError(message)
    if kind == "download_failed":
        failure = explain(detail["log"], None)
        return RemoteError(f"the download failed: {failure.cause}", failure.hint)
    if kind == "setup_failed":
        return SetupError(detail["step"], message, detail["tail"])
    if kind == "unexpected":
        return RemoteError(f"pi's own program failed on the pod ({detail['at']}): {message}", "please report this")
    return RemoteError(message)


class SetupError(RemoteError):
    """A step of the setup failed; `tail` holds its last lines of output."""

    def __init__(self, step: str, message: str, tail: list[str]) -> None:
        cause, _, way_on = message.partition(" -- ")
        super().__init__(f"setup failed at step {step!r}: {cause}", way_on or "mend it, then run the setup again")
        self.step = step
        self.tail = tail
