"""The program that a call sends to a pod, and the command line that runs it."""

from __future__ import annotations

import threading
import zlib
from functools import cache
from importlib.resources import files

from pi.on_pod.redact import NAMES

NO_BASH = "pi-found-no-bash"

NO_PYTHON = "pi-found-no-python"

FIND_BASH = (
    'command -v bash >/dev/null 2>&1 || export PATH="$PATH:/usr/local/bin:/usr/bin:/bin"; '
    f"command -v bash >/dev/null 2>&1 || {{ echo {NO_BASH}; exit 127; }}; "
)
"""Completes a PATH that lacks bash, which the pod's scripts need."""

RUN = (
    '{ exec 3<&0; "$p" -I -S -X utf8 -c "import sys,zlib;i=sys.stdin.buffer;'
    'exec(zlib.decompress(i.read(int(i.readline()))))" $$ <&3 3<&- & '
    "exec </dev/null 3<&-; wait $!; exit; }"
)
"""Runs the program beside a shell that waits for it; the program ends the shell if pi goes (`pi.on_pod.wire`)."""

WORKS = '-I -S -c "import json, subprocess, fcntl, urllib.request" >/dev/null 2>&1'
"""Fails for a Python without its standard library, as python3-minimal of Debian and Ubuntu is."""

OWN = (
    'own() { ls -dLln "$HOME" "$@" 2>/dev/null | { o=; while read -r m n u x; do '
    'case "$o:$m" in :*) o=$u; continue;; *:?????w*|*:????????w*) exit 1;; esac; '
    'case $u in 0|"$o"|"$(id -u)");; *) exit 1;; esac; done; }; }; '
)
"""A function that fails if other users own or may write one of its paths; a missing path passes."""

FIND_PYTHON = (
    f'{OWN}v="$HOME/venv/bin/python"; if own "$HOME/venv" "$HOME/venv/bin" "$v"; then set -- "$v" python3; '
    'else case "$(command -v python3)" in "$HOME"/venv*) set -- /usr/bin/python3 /usr/local/bin/python3;; '
    "*) set -- python3;; esac; fi; for p; do "
    f'command -v "$p" >/dev/null 2>&1 && {{ [ -z "$pi_tries" ] || "$p" {WORKS}; }} && {RUN}; done; '
)
"""Passes over the Python of a ~/venv that other users can change; `pi.on_pod.private` then says so."""

TRY_PYTHON = "pi_tries=1; "
"""Passes over a Python that does not work."""

INSTALL_PYTHON = (
    f"{TRY_PYTHON}python3 {WORKS}"
    ' || { s=; [ "$(id -u)" = 0 ] || s="sudo -n"; '
    "echo installing python3 with apt-get; while sleep 5 && echo .; do :; done & "
    "export DEBIAN_FRONTEND=noninteractive; $s apt-get -qq update; "
    "$s apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends python3; kill $!; } >&2; "
)
"""Prints dots, because pi takes silence for a lost connection."""

SHED = f"unset {' '.join(NAMES)}; "
"""Unsets secrets that for `local` the user's shell exports: pi's programs read them from files."""


def shell_command(preparation: str = "") -> str:
    """Return the command line of a call, for /bin/sh; the shell that stays for its time starts without the secrets."""
    return f"{SHED}exec /bin/sh -c '{FIND_BASH}{preparation}{FIND_PYTHON}echo {NO_PYTHON}; exit 127'"


LOADER = """\
import json, sys
from importlib import import_module
from importlib.machinery import ModuleSpec

class Loader:
    def find_spec(name, path=None, target=None):
        return ModuleSpec(name, Loader, is_package=name in ("pi", "pi.on_pod")) if name in sources else None
    def create_module(spec):
        return None
    def exec_module(module):
        exec(compile(sources[module.__name__], module.__name__, "exec"), module.__dict__)

sys.meta_path.insert(0, Loader)
call = json.loads(sys.stdin.buffer.readline())
verb = getattr(import_module("pi.on_pod." + call["module"]), call["verb"])
import_module("pi.on_pod.wire").run(verb, call)
"""
"""Compiles the modules that a verb imports, and no others, then runs the verb and exits."""


def program() -> bytes:
    """Return the program that RUN executes: Python source, compressed, with all modules of `pi.on_pod`.

    Several pods that are asked at the same time share the work.
    """
    with _MAKING:
        return _program()


_MAKING = threading.Lock()


@cache
def _program() -> bytes:
    found = {
        path.name[:-3]: path.read_text("utf-8") for path in files("pi.on_pod").iterdir() if path.name[-3:] == ".py"
    }
    sources = {"pi": "", "pi.on_pod": found.pop("__init__"), **{f"pi.on_pod.{name}": found[name] for name in found}}
    return zlib.compress(f"sources = {sources!r}\n{LOADER}".encode())
