"""The programs of this machine.

`chores/machine.sh` installs missing programs. For an ordinary user it unpacks Debian packages into `.machine`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

PRIVATE = Path(__file__).parents[2] / ".machine"
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"

if (PRIVATE / "bin").exists():
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:{PRIVATE / 'bin'}"


def which(name: str) -> str | None:
    """Return the path of a program: the system's own, else the unpacked one."""
    return shutil.which(name, path=f"{SBIN}:{os.environ.get('PATH', os.defpath)}")


def program(name: str) -> str:
    """Return the path of a program; raise FileNotFoundError if there is none."""
    path = which(name)
    if path is None:
        raise FileNotFoundError(f"{name} not found; to install it, run: chores/machine.sh ssh")
    return path


def sshd_settings() -> list[str]:
    """Return the paths of an unpacked sshd's parts: sshd-session since 9.8, sshd-auth since 10.0."""
    if program("sshd") != str(PRIVATE / "bin" / "sshd"):
        return []
    parts = {"SshdSessionPath": "sshd-session", "SshdAuthPath": "sshd-auth"}
    paths = {word: PRIVATE / "root" / "usr" / "lib" / "openssh" / name for word, name in parts.items()}
    return [f"{word} {path}" for word, path in paths.items() if path.exists()]


def pod_environment(own: Path, path: str) -> dict[str, str]:
    """Return the PATH of a pod, with `own` first, and the path of the unpacked libraries that vLLM needs."""
    if not PRIVATE.exists():
        return {"PATH": f"{own}:{path}"}
    libraries = {"LD_LIBRARY_PATH": str(PRIVATE / "lib")} if (PRIVATE / "lib").exists() else {}
    return {"PATH": f"{own}:{PRIVATE / 'bin'}:{path}", **libraries}
