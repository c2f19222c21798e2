"""What `pi doctor` checks on the machine where pi runs."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from datetime import date

from pi import __version__, config
from pi.errors import PiError
from pi.planning import catalog
from pi.pods import state
from pi.steps import catalog_refresh, keys
from pi.steps.diagnosis import Checked, failure, ok, warning
from pi.text import count, one_line

OLD_DAYS = 120
"""A catalog of this age lacks the models of a season."""

PATIENCE_S = 5

OLDEST_SSH = (8, 0)
"""OpenSSH of 2019, as on Debian 10 and Ubuntu 20.04; pi is tested with newer ones."""


def checks() -> Iterator[Checked]:
    """Yield what each check of this machine found."""
    yield ok("here", "pi", f"{__version__}, Python {platform.python_version()}")
    named = {"ssh": _ssh, "agent": _agent, "folder": _folder, "key": _key, "catalog": _catalog}
    for name, check in named.items():
        yield _safely(name, check)


def _ssh() -> Checked:
    if not shutil.which("ssh"):
        return failure("here", "ssh", "no ssh client", "as root: apt-get install -y openssh-client")
    text = _output(["ssh", "-V"])[1]
    found = re.match(r"OpenSSH_(\d+)\.(\d+)", text)
    if found is None:
        return warning("here", "ssh", f"not OpenSSH: {one_line(text, 80)}", "install OpenSSH's client")
    if (int(found[1]), int(found[2])) < OLDEST_SSH:
        return warning("here", "ssh", f"{one_line(text, 80)} is old", "install a newer OpenSSH client")
    return ok("here", "ssh", one_line(text, 80))


def _agent() -> Checked:
    if not os.environ.get("SSH_AUTH_SOCK"):
        return ok("here", "agent", "none; ssh uses the keys of ~/.ssh")
    code, text = _output(["ssh-add", "-l"])
    if code == 0:
        return ok("here", "agent", f"it has {count(len(text.splitlines()), 'key')}")
    if code == 1:
        return warning("here", "agent", "it has no keys; ssh uses those of ~/.ssh", "ssh-add")
    return warning("here", "agent", "it does not answer", 'eval "$(ssh-agent)" && ssh-add')


def _output(words: list[str]) -> tuple[int, str]:
    """Return the exit code and all output of a program; 127 if it does not run."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 127, ""
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _folder() -> Checked:
    folder = config.config_dir()
    if not folder.exists():
        return ok("here", "folder", f"{folder} does not exist yet")
    found, path = folder.stat(), shlex.quote(str(folder))
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid() != 0:
        fix = f'sudo chown -R "$(id -u)" {path} && chmod 700 {path}'
        return failure("here", "folder", f"{folder} belongs to another user (uid {found.st_uid})", fix)
    if mode & 0o077:
        return warning("here", "folder", f"other users may read {folder} (mode {mode:04o})", f"chmod 700 {path}")
    if not os.access(folder, os.W_OK):
        return failure("here", "folder", f"cannot write {folder} (mode {mode:04o})", f"chmod 700 {path}")
    return ok("here", "folder", f"{folder}, with {count(len(state.load().pods), 'pod')}")


def _key() -> Checked:
    keys.api_key()
    return ok("here", "key", f"{keys.reference()} guards your models")


def _catalog() -> Checked:
    known_models = catalog.load(config.config_dir())
    today, text = date.today(), catalog_refresh.age(known_models.date, date.today())
    if known_models.date is None or (today - date.fromisoformat(known_models.date)).days > OLD_DAYS:
        newer = "pi models --refresh" if config.setting(config.config_dir(), "catalog_url") else ""
        return warning("here", "catalog", text, newer or "upgrade pi, or: pi models --refresh FILE")
    return ok("here", "catalog", text)


def _safely(name: str, check: Callable[[], Checked]) -> Checked:
    """Return what a check found, or the error that it raised."""
    try:
        return check()
    except PiError as error:
        return failure("here", name, error.message, error.hint or "")
