"""The real clients of models, installed into a cache: `inv clients` runs them against pi's tunnel and guard."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from chores.bench_peers import provide_node

BIN = Path(sys.executable).parent

NPM = ("opencode-ai", "@openai/codex", "@anthropic-ai/claude-code", "@mariozechner/pi-coding-agent")

PYPI = ("llm",)


def provide(cache: Path) -> Path:
    """Install the clients, each in its newest release, and return the folder of their commands."""
    venv, modules, commands = cache / "clients-venv", cache / "clients-npm", cache / "clients-bin"
    if not (venv / "bin" / "llm").exists():
        subprocess.run([BIN / "uv", "venv", "--quiet", "--clear", venv], check=True)
        subprocess.run([BIN / "uv", "pip", "install", "--quiet", "--python", venv, *PYPI], check=True)
    node, npm = provide_node(cache)
    if not (modules / "node_modules" / ".bin" / "opencode").exists():
        words = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(modules), *NPM]
        subprocess.run(words, check=True)
    commands.mkdir(exist_ok=True)
    found = {name: modules / "node_modules" / ".bin" / name for name in ("opencode", "codex", "claude", "pi")}
    for name, path in {**found, "llm": venv / "bin" / "llm", "node": Path(node)}.items():
        link = commands / name
        link.unlink(missing_ok=True)
        link.symlink_to(Path(shutil.which(str(path)) or path).absolute())
    return commands
