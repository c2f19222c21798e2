"""Run pi as `python -m pi`."""

from pi.cli.entry import main

main()
