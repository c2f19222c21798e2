"""The part of README.md that pi itself prints, kept as it prints it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"(<!-- pi --help -->\n```\n).*?(```\n<!-- /pi --help -->)", re.DOTALL)


def renewed() -> str:
    """README.md with the present output of `pi --help` in its place."""
    pi = Path(sys.executable).parent / "pi"
    printed = subprocess.run([pi, "--help"], capture_output=True, text=True, check=True).stdout
    return BLOCK.sub(lambda found: found[1] + printed + found[2], README.read_text())
