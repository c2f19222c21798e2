"""Chores of this repository: `inv --list`. pi's own verbs are here too, with state/ as their config dir."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from invoke import Collection, Context, Exit, task

import pi

ROOT = Path(__file__).parent
BIN = Path(sys.executable).parent
os.environ.setdefault("PI_CONFIG_DIR", str(ROOT / "state"))


@task(
    help={
        "part": "a folder or file of tests: these alone, without lint and types",
        "quick": "only unit tests and the SSH tests of what has changed",
    }
)
def test(c: Context, part: str = "", quick: bool = False) -> None:
    """Lint, types, and the tests that need no vLLM."""
    from chores import suite

    with suite.clocked():
        if not part:
            lint(c)
        chosen = part.split() or (suite.quick() if quick else [])
        c.run(shlex.join([f"{BIN}/python", "-m", "pytest", "-q", *suite.options(), *chosen]))


@task
def lint(c: Context) -> None:
    """Check rules and format (ruff) and types (mypy)."""
    c.run(f"{BIN}/ruff check .")
    c.run(f"{BIN}/ruff format --check .")
    c.run(f"{BIN}/mypy")


@task
def e2e(c: Context) -> None:
    """Test end to end with the real vLLM (minutes)."""
    c.run(f"{BIN}/python -m pytest -q -m e2e tests/e2e --timeout 1500")


@task
def advisories(c: Context) -> None:
    """Look the installed packages up in PyPI's advisory database (pip-audit)."""
    from chores.advisories import report

    raise Exit(code=report())


@task
def slow(c: Context) -> None:
    """Test what takes minutes over SSH: 200 starts on one pod."""
    c.run(f"{BIN}/python -m pytest -q -m slow tests/ssh")


@task
def nightly(c: Context) -> None:
    """Test what takes hours in all: the slow tier, a long fuzz, and ten runs of the suite."""
    slow(c)
    for _ in range(10):
        test(c)
    fuzz(c, seconds=3600)


@task(help={"seconds": "how long in all"})
def fuzz(c: Context, seconds: int = 300) -> None:
    """Look for input that breaks a parser (coverage-guided, minutes)."""
    from chores.fuzz import report

    raise Exit(code=report(seconds))


@task(help={"until": "setup: stop when the pod is set up"})
def demo(c: Context, until: str = "") -> None:
    """Make this machine a pod and ask a small model."""
    from chores.demo import play

    raise Exit(code=play(ROOT / ".demo", until))


@task
def bench(c: Context) -> None:
    """Time pi beside what it is measured against."""
    from chores.bench import report

    report()


@task
def readme(c: Context) -> None:
    """Put what `pi --help` prints into README.md."""
    from chores.readme import README, renewed

    README.write_text(renewed())


@task
def convert(c: Context, markdown: str) -> None:
    """Print a Markdown list of models as TOML for models.toml."""
    from chores.catalog_text import convert, to_toml

    print(to_toml(convert(Path(markdown).read_text())), end="")


@task
def render(c: Context) -> None:
    """Write models.md, the catalog for readers, from models.toml."""
    from chores.catalog_text import render
    from pi.planning.catalog import read_toml

    (ROOT / "models.md").write_text(render(read_toml(ROOT / "models.toml")))


models = Collection("models", convert, render)
ns = Collection(test, lint, e2e, slow, nightly, fuzz, advisories, demo, bench, readme, models, pi)
