"""Every error a user can meet: one message, the next step, and an exit code."""

from __future__ import annotations

import signal

from pi.text import one_line, safe

LONGEST = 2000
"""Characters of a message that are shown; what a user or a pod put into it may be longer."""


class Signalled(KeyboardInterrupt):
    """A signal other than Ctrl+C's ends pi; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def signal_of(interrupt: KeyboardInterrupt) -> int:
    """Return the number of the signal that interrupted pi; Ctrl+C's is SIGINT."""
    return interrupt.number if isinstance(interrupt, Signalled) else signal.SIGINT


class PiError(Exception):
    """A failure that the user is told about in words, never as a traceback.

    `message` says what is wrong; `hint` says what to do next. Both are plain text without a final period;
    values of strangers in them are made safe for a terminal when they are shown.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def render(self) -> str:
        """The text for stderr: the message, and the next step on a second line."""
        return f"pi: {_shown(self.message)}" + (f"\n  {_shown(self.hint)}" if self.hint else "")


def _shown(text: str) -> str:
    text = safe(text[: 4 * LONGEST])
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


class RemoteError(PiError):
    """An operation on the pod failed (exit code 1)."""


class UnprovenError(RemoteError):
    """The work on the pod ended without proof of what is left there (exit code 1)."""


class InputError(PiError):
    """Bad input, environment or state file; nothing was contacted or changed (exit code 2). One line."""

    exit_code = 2

    def render(self) -> str:
        joint = " " if self.message.endswith("?") else "; "
        return f"pi: {one_line(self.message, 600)}" + (joint + one_line(self.hint, 600) if self.hint else "")


class UnreachableError(PiError):
    """The pod could not be reached or refused the login (exit code 3)."""

    exit_code = 3


class HostKeyError(PiError):
    """The pod showed another host key than the one on record (exit code 4).

    `replaceable` says whether the record is pi's own, which `pi pods setup NAME --new-host-key` replaces.
    """

    exit_code = 4

    def __init__(self, message: str, hint: str | None = None, replaceable: bool = False) -> None:
        super().__init__(message, hint)
        self.replaceable = replaceable


class BusyError(PiError):
    """A lock, port, GPU or name is taken (exit code 5)."""

    exit_code = 5


class NotReadyError(PiError):
    """The model did not become ready (exit code 6)."""

    exit_code = 6


class OutputError(PiError):
    """What pi prints cannot be written (exit code 1); what it did on the pod stands."""


class UnwrittenError(PiError):
    """The pod did what it was asked to, and pods.json could not be written (exit code as of `cause`)."""

    def __init__(self, message: str, cause: PiError, hint: str) -> None:
        super().__init__(f"{message}: {cause.message}", f"{cause.hint}; then {hint}" if cause.hint else hint)
        self.exit_code = cause.exit_code


class Interrupted(PiError):
    """The user stopped pi; what was under way has been ended (exit code 130, or 128 + the signal)."""

    def __init__(self, message: str, signal: int = 2) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal


class LeftRunning(Interrupted):
    """The user stopped pi; what it started on the pod goes on."""
