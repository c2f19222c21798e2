"""The program that a call sends to a pod, and the command line that runs it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from pi.on_pod.redact import NAMES

MODULES = (
    "shapes",
    "events",
    "pace",
    "process",
    "redact",
    "journal",
    "wire",
    "audit",
    "follow",
    "records",
    "machine",
    "gpus",
    "checkpoint",
    "card",
    "registry",
    "hub",
    "storage",
    "survey",
    "health",
    "logs",
    "download",
    "arguments",
    "start",
    "stop",
    "status",
    "wait_shapes",
    "wait",
    "setup",
)
"""Modules of `pi.on_pod` in the order in which they import each other."""

NO_BASH = "pi-found-no-bash"

NO_PYTHON = "pi-found-no-python"

FIND_BASH = (
    'command -v bash >/dev/null 2>&1 || export PATH="$PATH:/usr/local/bin:/usr/bin:/bin"; '
    f"command -v bash >/dev/null 2>&1 || {{ echo {NO_BASH}; exit 127; }}; "
)
"""Completes a PATH that lacks bash, which the pod's scripts need."""

RUN = (
    '{ exec 3<&0; "$p" -I -S -X utf8 -c "import sys;i=sys.stdin.buffer;exec(i.read(int(i.readline())))" $$ <&3 3<&- & '
    "exec </dev/null 3<&-; wait $!; exit; }"
)
"""Runs the program beside a shell that waits for it; the program ends the shell if pi goes (`pi.on_pod.wire`)."""

FIND_PYTHON = f'for p in "$HOME/venv/bin/python" python3; do command -v "$p" >/dev/null 2>&1 && {RUN}; done; '

INSTALL_PYTHON = (
    'command -v python3 >/dev/null 2>&1 || { s=; [ "$(id -u)" = 0 ] || s="sudo -n"; '
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


@cache
def program() -> str:
    """Return Python source that builds the modules of `pi.on_pod`, runs one verb and exits."""
    sources = [(f"pi.on_pod.{name}", (files("pi.on_pod") / f"{name}.py").read_text("utf-8")) for name in MODULES]
    return "\n".join(
        [
            "import json, sys, types",
            f"for name, source in {[('pi', ''), ('pi.on_pod', ''), *sources]!r}:",
            "    module = sys.modules[name] = types.ModuleType(name)",
            "    exec(compile(source, name, 'exec'), module.__dict__)",
            "call = json.loads(sys.stdin.buffer.readline())",
            "verb = getattr(sys.modules['pi.on_pod.' + call['module']], call['verb'])",
            "sys.modules['pi.on_pod.wire'].run(verb, call)",
        ]
    )
