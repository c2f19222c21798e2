"""Remember which notices the user has seen, over all runs of pi."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from pi import config

REMEMBERED = 500
"""Most notices in the file; older ones are forgotten, so pi may show them again."""


class SaidOnce:
    """Notices that pi has shown, as digests in a private file (0600) of its folder.

    If the file is unreadable or unwritable, pi shows a notice again.
    """

    def __init__(self, config_dir: Path) -> None:
        self._file = config_dir / "prompt_notices"

    def is_new(self, *about: str) -> bool:
        """Return whether pi has not said this yet, and remember it."""
        digest = hashlib.sha256("\0".join(about).encode("utf-8", "replace")).hexdigest()[:32]
        said = self._said()
        if digest in said:
            return False
        with contextlib.suppress(OSError):
            config.make_private(self._file.parent)
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.writelines(f"{line}\n" for line in [*said, digest][-REMEMBERED:])
        return True

    def _said(self) -> list[str]:
        try:
            return self._file.read_text(encoding="ascii", errors="replace").split()
        except OSError:
            return []
