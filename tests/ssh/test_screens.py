"""What users see on a terminal of 80 columns, and on a wide one."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios

import pytest

from tests.rig.command import Pi, program
from tests.ssh.conftest import Serving

COMMANDS = ["--help", "list", "list --all-pods", "pods", "models smollm", "key list", "audit"]


def screen(pi: Pi, columns: int, rows: int, words: str) -> list[str]:
    """Return the lines that pi prints on a terminal of this size."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**pi.environment, "NO_COLOR": "1"}
    running = subprocess.Popen(
        [program("pi"), *words.split()], env=environment, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL
    )
    os.close(theirs)
    printed = b""
    try:
        while piece := os.read(ours, 65536):
            printed += piece
    except OSError:  # the end of a terminal
        pass
    os.close(ours)
    assert running.wait() == 0
    return printed.decode().splitlines()


@pytest.mark.long
@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50)])
def test_what_pi_prints_fits_the_terminal(columns: int, rows: int, serving: Serving) -> None:
    for words in COMMANDS:
        lines = [line for line in screen(serving.pi, columns, rows, words) if "/" not in line or "  " in line.strip()]
        assert lines and max(map(len, lines)) <= columns, (words, max(lines, key=len))
