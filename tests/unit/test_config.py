"""pi's folder on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from pi import config


def test_a_private_folder_and_its_missing_parents_are_for_this_user_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        config.make_private(tmp_path / "pi" / "tunnels" / "box")
        config.make_private(tmp_path / "pi" / "tunnels" / "box")
    finally:
        os.umask(before)
    made = [tmp_path / "pi", tmp_path / "pi" / "tunnels", tmp_path / "pi" / "tunnels" / "box"]
    assert [folder.stat().st_mode & 0o777 for folder in made] == [0o700] * 3
