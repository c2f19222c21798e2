"""The log of changes on the machine that runs pi; `pi.on_pod.audit` writes the log on a pod."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator

from pi import config
from pi.errors import Interrupted, PiError
from pi.on_pod.audit import append
from pi.redaction import redacted

FIELDS = 5

FILE = "audit.log"


def who() -> str:
    """Return the user and the machine that run pi, such as "ann@laptop"."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"


def note(command: str, name: str, result: str = "ok") -> None:
    """Add a line to the log in the config dir. Ignore a failed write."""
    with contextlib.suppress(OSError):
        append(str(config.config_dir() / FILE), who(), command, redacted(name), result)


@contextlib.contextmanager
def change(command: str, name: str) -> Iterator[None]:
    """Log how the block ended."""
    try:
        yield
    except (KeyboardInterrupt, Interrupted):
        note(command, name, "interrupted")
        raise
    except PiError as error:
        note(command, name, f"failed: {error.id} (exit code {error.exit_code})")
        raise
    except BaseException as error:
        note(command, name, f"failed: {type(error).__name__}")
        raise
    note(command, name)


def row(line: str) -> list[str]:
    """Split a line of a log into time, who, command, name and result.

    If it has another shape, the whole line is the result.
    """
    fields = line.split("\t")
    return fields if len(fields) == FIELDS else ["", "", "", "", line]
