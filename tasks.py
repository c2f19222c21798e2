"""Chores of this repository: `inv --list`. pi's own verbs are here too, with state/ as their config dir."""

from __future__ import annotations

import os
from pathlib import Path

from invoke import Collection, Context, Exit, task

import pi

ROOT = Path(__file__).parent
os.environ.setdefault("PI_CONFIG_DIR", str(ROOT / "state"))


@task
def test(c: Context) -> None:
    """Lint, type check, and the tests that need no vLLM (unit, and over a real sshd)."""
    lint(c)
    c.run("python -m pytest -q", pty=False)


@task
def lint(c: Context) -> None:
    """ruff (rules and format) and mypy (strict on pi/)."""
    c.run("ruff check .")
    c.run("ruff format --check .")
    c.run("mypy")


@task
def e2e(c: Context) -> None:
    """The end-to-end tier: real sshd, real setup, real vLLM, a real small model (minutes)."""
    c.run("python -m pytest -q -m e2e tests/e2e --timeout 1500")


@task
def demo(c: Context) -> None:
    """A pod on this machine: set up, start a small model, ask it, list it, stop it."""
    from chores.demo import play

    raise Exit(code=play(ROOT / ".demo"))


@task
def bench(c: Context) -> None:
    """Wall times of pi beside what they are measured against, in one run."""
    from chores.bench import report

    report()


ns = Collection(test, lint, e2e, demo, bench, pi)
