"""The program that a call sends to a pod, and the command line that runs it."""

from __future__ import annotations

import re
import threading
import zlib
from functools import cache
from importlib.resources import files

from pi.on_pod.redact import NAMES

NO_BASH = "pi-found-no-bash"

NO_PYTHON = "pi-found-no-python"

RUNS_PYTHON = "pi-runs-python "
"""Begins a line with the path of the Python that runs next."""

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
    f'command -v "$p" >/dev/null 2>&1 && echo "{RUNS_PYTHON}$p" && '
    f'{{ [ -z "$pi_tries" ] || "$p" {WORKS}; }} && {RUN}; done; '
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
from threading import RLock
from types import ModuleType

class Module(ModuleType):
    def __getattr__(module, name):
        with lock:
            text = None if name[:2] == "__" else sources.pop(module.__name__, None)
            if text is not None:
                names = {"__name__": module.__name__}
                exec(compile(text, module.__name__, "exec"), names)
                module.__dict__.update(names)
        return object.__getattribute__(module, name)

class Loader:
    def find_spec(name, path=None, target=None):
        return ModuleSpec(name, Loader, is_package=name in ("pi", "pi.on_pod")) if name in sources else None
    def create_module(spec):
        return Module(spec.name)
    def exec_module(module):
        pass

lock = RLock()
sys.meta_path.insert(0, Loader)
call = json.loads(sys.stdin.buffer.readline())
verb = getattr(import_module("pi.on_pod." + call["module"]), call["verb"])
import_module("pi.on_pod.wire").run(verb, call)
"""
"""Compiles a module when its first name is needed, then runs the verb and exits."""


def program(module: str) -> bytes:
    """Return the program that RUN executes: Python source, compressed, with all that a module of `pi.on_pod` imports.

    Several pods that are asked at the same time share the work.
    """
    with _MAKING:
        return _program(module)


_MAKING = threading.Lock()


@cache
def _program(module: str) -> bytes:
    folder = files("pi.on_pod")
    found, waiting = {"__init__": ""}, ["wire", module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = folder.joinpath(f"{name}.py").read_text("utf-8")
            waiting += imported(found[name])
    sources = {"pi": "", "pi.on_pod": found.pop("__init__"), **{f"pi.on_pod.{name}": found[name] for name in found}}
    return zlib.compress(f"sources = {sources!r}\n{LOADER}".encode(), COMPRESSION)


COMPRESSION = 6
"""Level 1 takes a third of the time and makes a quarter more bytes, which costs a far pod another round trip."""


IMPORT = re.compile(r"^from pi\.on_pod(?:\.(\w+))? import (?:\(([^)]*)\)|(.*))", re.MULTILINE)


def imported(source: str) -> list[str]:
    """Return the modules of `pi.on_pod` that a source text imports when it runs."""
    found = IMPORT.findall(source)
    return [name for module, *listed in found for name in ([module] if module else re.findall(r"\w+", "".join(listed)))]
