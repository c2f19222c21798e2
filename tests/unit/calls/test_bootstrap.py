"""The command line of a call, run by a real shell with a PATH of its own."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from pi import on_pod
from pi.calls.bootstrap import INSTALL_PYTHON, LOADER, NO_PYTHON, RUNS_PYTHON, TRY_PYTHON, imported, shell_command
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


def run(home: Path, preparation: str) -> bytes:
    """Return what the command line prints, without the names of the Pythons that it tries."""
    program(home, "sleep", f"#!/bin/sh\nexec {shutil.which('sleep')} 0.1\n")
    for name in ("sh", "bash", "id", "ln", "ls"):
        target = shutil.which(name)
        assert target
        (home / "bin").mkdir(exist_ok=True)
        (home / "bin" / name).symlink_to(target)
    done = subprocess.run(
        ["/bin/sh", "-c", shell_command(preparation)],
        env={"HOME": str(home), "PATH": str(home / "bin")},
        input=b"%d\n%s" % (len(PROGRAM), PROGRAM),
        capture_output=True,
        timeout=30,
    )
    lines = done.stdout.splitlines(keepends=True)
    assert lines[0].startswith(RUNS_PYTHON.encode()) or NO_PYTHON.encode() in done.stdout, done
    return b"".join(line for line in lines if not line.startswith(RUNS_PYTHON.encode()))


@pytest.mark.parametrize("found", [MINIMAL, None], ids=["without its standard library", "missing"])
def test_setup_installs_a_python_that_does_not_work(tmp_path: Path, found: str | None) -> None:
    if found:
        program(tmp_path, "python3", found)
    program(tmp_path, "apt-get", INSTALLS)
    assert run(tmp_path, INSTALL_PYTHON) == b"ran\n"
    assert (tmp_path / "apt").read_text().splitlines()[-1].endswith("--no-install-recommends python3")


def test_setup_installs_nothing_beside_a_python_that_works(tmp_path: Path) -> None:
    program(tmp_path, "python3", '#!/bin/sh\nexec {python} "$@"\n')
    program(tmp_path, "apt-get", INSTALLS)
    assert run(tmp_path, INSTALL_PYTHON) == b"ran\n"
    assert not (tmp_path / "apt").exists()


def test_a_check_installs_nothing_and_passes_over_a_python_that_does_not_work(tmp_path: Path) -> None:
    program(tmp_path, "python3", MINIMAL)
    program(tmp_path, "apt-get", INSTALLS)
    assert run(tmp_path, TRY_PYTHON).decode() == NO_PYTHON + "\n"
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
    assert run(tmp_path, "") == (b"ran\n" if harm else b"foreign\n")


def of_ast(source: str) -> set[str]:
    """Return the modules of `pi.on_pod` that the statements at the top of a module import."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and node.module == "pi.on_pod":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pi.on_pod."):
            found.add(str(node.module).rpartition(".")[2])
    return found


@pytest.mark.parametrize("path", sorted(Path(on_pod.__file__).parent.glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_the_program_has_all_that_a_module_imports(path: Path) -> None:
    source = path.read_text("utf-8")
    assert set(imported(source)) == of_ast(source)


def test_modules_that_threads_use_first_are_loaded_once() -> None:
    """The pod's modules are compiled when their first name is needed, perhaps by several threads at once."""
    sources = {
        "pi": "",
        "pi.on_pod": "",
        "pi.on_pod.late": "import time\nprint('loaded')\ndef early(): return later()\ntime.sleep(0.2)\ndef later(): return 'ok'\n",
        "pi.on_pod.user": "import threading\nfrom pi.on_pod import late\nprint('user')\ndef verb(*_):\n"
        "    threads = [threading.Thread(target=lambda: print(late.early())) for _ in range(4)]\n"
        "    [thread.start() for thread in threads]; [thread.join() for thread in threads]\n",
        "pi.on_pod.wire": "def run(verb, call): verb()\n",
    }
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"sources = {sources!r}\n{LOADER}"],
        input=b'{"module": "user", "verb": "verb"}\n',
        capture_output=True,
        timeout=30,
    )
    assert done.stdout.split() == [b"user", b"loaded", *[b"ok"] * 4], done
