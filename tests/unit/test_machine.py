"""chores/machine.sh with stand-ins for apt-get, dpkg, sudo and id."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "chores" / "machine.sh"
UNPACKS = """
mkdir -p "$3/usr/sbin" "$3/usr/lib/x86_64-linux-gnu"
printf '#!/bin/sh\\necho "$LD_LIBRARY_PATH"\\n' >"$3/usr/sbin/sshd"
mkdir -p "$3/bin" "$3/usr/share/zsh/functions/Zle"
printf '#!/bin/sh\\necho "$FPATH"\\n' >"$3/bin/zsh-static"
chmod +x "$3/usr/sbin/sshd" "$3/bin/zsh-static"
"""


class Machine:
    """A checkout on a machine without the requested Python."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        (folder / "chores").mkdir()
        shutil.copy(SCRIPT, folder / "chores")

    def has(self, **programs: str) -> None:
        """Put programs into its PATH; each records its arguments in `ran`."""
        for name, body in programs.items():
            path = self.bin / name.replace("_", "-")
            path.write_text(f'#!/bin/sh\necho "${{0##*/}} $*" >>{self.folder}/ran\n{body}\n')
            path.chmod(0o755)

    def ran(self) -> list[str]:
        path = self.folder / "ran"
        return path.read_text().splitlines() if path.exists() else []

    def install(self, *needs: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", self.folder / "chores" / "machine.sh", *needs],
            env={"PATH": f"{self.bin}:{os.environ['PATH']}", "PYTHON": "no-such-python", **environment},
            capture_output=True,
            text=True,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.has(sudo="exit 1", id="echo 1000", apt_get="exit 100", dpkg="exit 1")
    return made


def test_no_program_runs_if_nothing_is_missing(machine: Machine) -> None:
    done = machine.install("python", PYTHON="true")
    assert (done.returncode, done.stdout, done.stderr, machine.ran()) == (0, "", "", [])


@pytest.mark.parametrize(("user", "sudo"), [("0", ""), ("1000", "sudo ")], ids=["root", "sudo"])
def test_root_and_sudo_install_packages(machine: Machine, user: str, sudo: str) -> None:
    machine.has(id=f"echo {user}", sudo='shift\nexec "$@"', apt_get="")
    assert machine.install("python").returncode == 0
    installs = [line for line in machine.ran() if " install " in line and line.startswith("apt-get")]
    assert len(installs) == 1 and installs[0].endswith("--no-install-recommends python3 no-such-python-venv")
    assert bool(sudo) == any(line.startswith("sudo -n env") for line in machine.ran())


def test_other_users_unpack_packages(machine: Machine) -> None:
    machine.has(apt_get=f'case "$*" in *install*) touch {machine.folder}/.machine/apt/cache/archives/x.deb ;; esac')
    machine.has(dpkg=UNPACKS)
    done = machine.install("python")
    assert done.returncode == 0, done
    private = machine.folder / ".machine"
    assert f"unpacking Debian packages into {private}: python3 no-such-python-venv" in done.stdout
    printed = subprocess.check_output([private / "bin" / "sshd"], text=True)
    assert printed.strip() == f"{private}/root/usr/lib/x86_64-linux-gnu"
    functions = private / "root/usr/share/zsh/functions"
    found = subprocess.check_output([private / "bin" / "zsh"], text=True).strip().split(":")
    assert set(found) == {str(functions), f"{functions}/Zle"}
    assert not (private / "apt").exists()


@pytest.mark.parametrize("user", ["0", "1000"])
def test_a_failed_install_prints_the_command_to_run(machine: Machine, user: str) -> None:
    machine.has(id=f"echo {user}")
    done = machine.install("python")
    assert done.returncode == 1
    assert (
        "missing: python3 no-such-python-venv; as root, run: apt-get install -y python3 no-such-python-venv"
        in done.stderr
    )


def test_an_unknown_need_is_rejected(machine: Machine) -> None:
    done = machine.install("coffee")
    assert done.returncode == 1 and "unknown need 'coffee'" in done.stderr
