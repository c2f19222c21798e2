"""Run pi as `python -m pi`."""

from pi.cli.program import main

main()
