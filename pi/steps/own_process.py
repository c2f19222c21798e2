"""Start pi as a process that outlives this command, such as a tunnel or the door in the background."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from pi import config


def require_room(log: int) -> None:
    """Raise OSError if the disk of an empty log is full: the process would end without a word."""
    os.pwrite(log, b"\n", 0)
    os.ftruncate(log, 0)


def start(words: Sequence[str], output: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `pi` with these words. It writes to the file descriptor `output`, and uses the present config dir."""
    return subprocess.Popen(
        [sys.executable, "-m", "pi", *words],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={**environment, "PI_CONFIG_DIR": str(config.config_dir())},
        cwd="/",
        start_new_session=True,
    )
