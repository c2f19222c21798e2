"""The start of the `pi` command: Ctrl+C ends it without a traceback while its modules are still imported."""

from __future__ import annotations

import signal


def main() -> None:
    """Import the program and run it."""
    given = signal.getsignal(signal.SIGINT)
    if given is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pi.cli import program  # what this module waits for

    signal.signal(signal.SIGINT, given)
    program.main()
