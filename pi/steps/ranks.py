"""The pods behind the head of a model, while it starts: each is launched and watched in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from pi import faults
from pi.calls.explain import read_ending
from pi.calls.logs import follow_log
from pi.errors import (
    HostKeyError,
    Interrupted,
    LeftRunning,
    NotReadyError,
    OutputError,
    PiError,
    RemoteError,
    UnreachableError,
)
from pi.steps.members import Joined

SETTLE_S = 60
"""How long a launch may be on its way after the start has failed; a pod waits as long for its lock."""


class Ranks:
    """Launches the ranks behind a head, and stops the start if one of them ends before the head is ready.

    `launch` starts one and returns when its processes run. `stop` is called once, from a thread, at the first failure.
    """

    def __init__(
        self, name: str, members: Sequence[Joined], launch: Callable[[Joined], object], stop: Callable[[], object]
    ) -> None:
        self._name, self._members, self._launch, self._stop = name, members, launch, stop
        self._threads = [threading.Thread(target=self._run, args=(member,), daemon=True) for member in members]
        self._launched = {member.pod.name: threading.Event() for member in members}
        self._settling = threading.Lock()
        self._is_over = False
        self.is_cancelled = False
        self.failure: PiError | None = None

    def begin(self) -> None:
        """Launch all, once."""
        for thread in self._threads:
            if not thread.ident:
                thread.start()

    def await_launched(self) -> None:
        """Wait until all run, or one has failed. Raises its error."""
        for launched in self._launched.values():
            while not (launched.wait(0.1) or self.failure):
                pass
        if self.failure:
            raise self.failure

    def end(self) -> None:
        """Watch them no longer."""
        with self._settling:
            self._is_over = True

    def cancel(self) -> None:
        """Launch no more of them, and wait until none is on its way, so that a stop finds all."""
        self.end()
        self.is_cancelled = True
        deadline = time.monotonic() + SETTLE_S
        for thread, launched in zip(self._threads, self._launched.values(), strict=True):
            while thread.is_alive() and not launched.is_set() and time.monotonic() < deadline:
                time.sleep(0.05)

    def require_wanted(self) -> None:
        """Raise Interrupted if the start has failed elsewhere. Call it before a rank is launched."""
        if self.is_cancelled:
            raise Interrupted("interrupted", "the start has failed on another pod")

    def _run(self, member: Joined) -> None:
        try:
            self._launch(member)
            self._launched[member.pod.name].set()
            self._watch(member)
        except PiError as error:
            self._fail(member, error)
        except Exception as error:
            self._fail(member, RemoteError("pod-fault", faults.describe(error)))

    def _watch(self, member: Joined) -> None:
        """Wait for the end of a rank's processes, which the head's start must not outlive. Raises NotReadyError."""
        with suppress(UnreachableError):  # it may run on: the other pods notice if it does not
            if follow_log(member.connection, self._name, lambda event: None, lines=0).how == "exited":
                failure = read_ending(member.connection, self._name).failure()
                raise NotReadyError(failure.id or "rank-ended", failure.cause, failure.hint)

    def _fail(self, member: Joined, error: PiError) -> None:
        with self._settling:
            if self._is_over or self.failure:
                return
            self.failure = with_pod(self._name, error, member.pod.name)
        with suppress(PiError):
            self._stop()


def with_pod(name: str, error: PiError, pod: str) -> PiError:
    """Return an error of one pod with the pod's name, and the place of its log."""
    error.message = f"{name} did not start: {pod}: {error.message}"
    if isinstance(error, NotReadyError) and f"pi logs {name}" not in (error.hint or ""):
        log = f"the whole log: pi logs {name} --pod {pod}"
        error.hint = f"{error.hint}\n  {log}" if error.hint else log
    elif error.hint:
        error.hint = error.hint.replace(f"pi logs {name} (", f"pi logs {name} --pod {pod} (")
    return error


def goes_on(error: BaseException) -> bool:
    """Return whether the head still works after an error, so that pi must not stop the others."""
    return isinstance(error, (UnreachableError, HostKeyError, LeftRunning, OutputError, BrokenPipeError))
