"""The file that `ssh -v -E` writes its messages to."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

from pi import config

OPENED = r"master session id|Sending command|channel \d+: new direct-tcpip"

OWN_CONNECTION = r"debug1: (?:Connecting to|Executing proxy command)"


class Log:
    """A private file for ssh's messages, which goes when it has been read."""

    def __init__(self, folder: Path) -> None:
        with contextlib.suppress(OSError):
            config.make_private(folder)
        try:
            name = _made(".ssh-", folder)
        except OSError:
            name = _made("pi-ssh-", None)
        self.path = Path(name)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def text(self) -> str:
        try:
            return self.path.read_text("utf-8", "replace")
        except OSError:
            return ""

    def has_channel(self) -> bool:
        """Return whether the server has opened a channel."""
        return re.search(OPENED, self.text()) is not None

    def has_own_connection(self) -> bool:
        """Return whether ssh uses no warm connection, for example since the socket was left by a dead process."""
        return re.search(OWN_CONNECTION, self.text()) is not None

    def close(self) -> None:
        self.path.unlink(missing_ok=True)


def _made(prefix: str, folder: Path | None) -> str:
    """Make a file with room for messages. Raises OSError, also on a full disk, where ssh would leave it empty."""
    descriptor, name = tempfile.mkstemp(prefix=prefix, dir=folder)
    try:
        os.write(descriptor, b"\n")
        os.truncate(descriptor, 0)
    except OSError:
        Path(name).unlink()
        raise
    finally:
        os.close(descriptor)
    return name
