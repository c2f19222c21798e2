"""The command line of a call, run by a real shell with a PATH of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from pi.calls.bootstrap import INSTALL_PYTHON, NO_PYTHON, TRY_PYTHON, shell_command
from tests.rig.skips import skip

PROGRAM = zlib.compress(b"print('ran')")

MINIMAL = '#!/bin/sh\ncase "$*" in *json*) exit 1 ;; esac\nexec {python} "$@"\n'
"""A Python without its standard library, as python3-minimal of Debian is."""

INSTALLS = '#!/bin/sh\necho "$@" >>{home}/apt\nfor word; do :; done\n[ $word != python3 ] || ln -sf {python} {home}/bin/python3\n'


def program(home: Path, name: str, text: str) -> None:
    path = home / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.format(python=sys.executable, home=home))
    path.chmod(0o755)


def run(home: Path, preparation: str) -> subprocess.CompletedProcess[bytes]:
    program(home, "sleep", f"#!/bin/sh\nexec {shutil.which('sleep')} 0.1\n")
    for name in ("sh", "bash", "id", "ln", "ls"):
        target = shutil.which(name)
        assert target
        (home / "bin").mkdir(exist_ok=True)
        (home / "bin" / name).symlink_to(target)
    return subprocess.run(
        ["/bin/sh", "-c", shell_command(preparation)],
        env={"HOME": str(home), "PATH": str(home / "bin")},
        input=b"%d\n%s" % (len(PROGRAM), PROGRAM),
        capture_output=True,
        timeout=30,
    )


@pytest.mark.parametrize("found", [MINIMAL, None], ids=["without its standard library", "missing"])
def test_setup_installs_a_python_that_does_not_work(tmp_path: Path, found: str | None) -> None:
    if found:
        program(tmp_path, "python3", found)
    program(tmp_path, "apt-get", INSTALLS)
    done = run(tmp_path, INSTALL_PYTHON)
    assert done.stdout == b"ran\n", done
    assert (tmp_path / "apt").read_text().splitlines()[-1].endswith("--no-install-recommends python3")


def test_setup_installs_nothing_beside_a_python_that_works(tmp_path: Path) -> None:
    program(tmp_path, "python3", '#!/bin/sh\nexec {python} "$@"\n')
    program(tmp_path, "apt-get", INSTALLS)
    assert run(tmp_path, INSTALL_PYTHON).stdout == b"ran\n"
    assert not (tmp_path / "apt").exists()


def test_a_check_installs_nothing_and_passes_over_a_python_that_does_not_work(tmp_path: Path) -> None:
    program(tmp_path, "python3", MINIMAL)
    program(tmp_path, "apt-get", INSTALLS)
    assert run(tmp_path, TRY_PYTHON).stdout.decode() == NO_PYTHON + "\n"
    assert not (tmp_path / "apt").exists()


@pytest.mark.parametrize("place", ["venv", "venv/bin", "venv/bin/python"])
@pytest.mark.parametrize("harm", ["mode", "owner", None])
def test_a_python_that_other_users_can_change_is_not_run(tmp_path: Path, place: str, harm: str | None) -> None:
    if harm == "owner" and os.geteuid():
        skip("users")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    python = tmp_path / "venv" / "bin" / "python"
    python.write_text("#!/bin/sh\necho foreign\n")
    python.chmod(0o755)
    if harm == "mode":
        (tmp_path / place).chmod(0o757)
    if harm == "owner":
        os.chown(tmp_path / place, 65534, -1)
    program(tmp_path, "python3", '#!/bin/sh\nexec {python} "$@"\n')
    assert run(tmp_path, "").stdout == (b"ran\n" if harm else b"foreign\n")
