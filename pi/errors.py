"""The errors that pi reports: an id, a message, a hint and an exit code."""

from __future__ import annotations

import os
import signal

from pi.text import one_line, safe

LONGEST = 2000
"""Maximum characters of a message; a user or a pod may put more into it."""


class Signalled(KeyboardInterrupt):
    """A signal other than Ctrl+C's ends pi; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def signal_of(interrupt: KeyboardInterrupt) -> int:
    """Return the number of the signal that interrupted pi; Ctrl+C's is SIGINT."""
    return interrupt.number if isinstance(interrupt, Signalled) else signal.SIGINT


class PiError(Exception):
    """A failure that pi reports in words, never as a traceback.

    `id` names the kind of failure in kebab-case and stays the same when the words change. `message` says what is
    wrong; `hint` says what to do next. Both are plain text without a final period and may contain values from
    pods. `render` makes them safe for a terminal.
    """

    exit_code = 1

    def __init__(self, id: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.id = id
        self.message = message
        self.hint = hint

    def render(self) -> str:
        """Return the text for stderr: the message, and the next step on a second line."""
        return f"pi: {_shown(self.message)}{tag(self.id)}" + (f"\n  {_shown(self.hint)}" if self.hint else "")


def tag(id: str) -> str:
    """Return the id in brackets if PI_DEBUG is set, else an empty string."""
    return f" [{id}]" if os.environ.get("PI_DEBUG") else ""


def _shown(text: str) -> str:
    text = safe(text[: 4 * LONGEST])
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


class RemoteError(PiError):
    """An operation on the pod failed (exit code 1)."""


class AbsentError(RemoteError):
    """The pod does not have what a request names (exit code 1)."""


class UnprovenError(RemoteError):
    """The work on the pod ended, and pi cannot tell what is left there (exit code 1)."""


class InputError(PiError):
    """Bad input, environment or state file; pi contacted and changed nothing (exit code 2). One line."""

    exit_code = 2

    def render(self) -> str:
        joint = " " if self.message.endswith("?") else "; "
        hint = joint + one_line(self.hint, 600) if self.hint else ""
        return f"pi: {one_line(self.message, 600)}{hint}{tag(self.id)}"


class UnreachableError(PiError):
    """pi cannot reach the pod, or the pod refused the login (exit code 3)."""

    exit_code = 3


class HostKeyError(PiError):
    """The pod is not the machine on record, by its host key or its machine id (exit code 4).

    If `replaceable`, the record is pi's own, and `pi pods setup NAME --new-host-key` replaces it.
    """

    exit_code = 4

    def __init__(self, id: str, message: str, hint: str | None = None, replaceable: bool = False) -> None:
        super().__init__(id, message, hint)
        self.replaceable = replaceable


class BusyError(PiError):
    """A lock, port, GPU or name is taken (exit code 5)."""

    exit_code = 5


class NotReadyError(PiError):
    """The model did not become ready (exit code 6)."""

    exit_code = 6


class OutputError(PiError):
    """pi cannot write its output (exit code 1); its work on the pod is done."""


class UnwrittenError(PiError):
    """The pod did its work, but pi could not write pods.json (exit code of `cause`)."""

    def __init__(self, message: str, cause: PiError, hint: str) -> None:
        super().__init__(cause.id, f"{message}: {cause.message}", f"{cause.hint}; then {hint}" if cause.hint else hint)
        self.exit_code = cause.exit_code


class Interrupted(PiError):
    """The user stopped pi, and pi stopped its work (exit code 130, or 128 + the signal)."""

    def __init__(self, id: str, message: str, signal: int = 2) -> None:
        super().__init__(id, message)
        self.exit_code = 128 + signal


class LeftRunning(Interrupted):
    """The user stopped pi; the pod keeps working."""


class Unconfirmed(Interrupted):
    """The user stopped pi, and the pod did not say in time that its work has ended: it may have succeeded before."""
