"""Chores of this repository: `inv --list`. Also pi's own verbs, with state/ as their folder."""

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
        "quick": "only the tests of what has changed",
        "once": "do not repeat a test that failed",
    }
)
def test(c: Context, part: str = "", quick: bool = False, once: bool = False) -> None:
    """Lint, types, and the tests that need no vLLM."""
    from chores import dependents, suite

    with suite.clocked():
        if part:
            code = suite.run([[*suite.options(), *part.split()]], repeat=not once)
        else:
            os.environ.setdefault("PI_TEST_CASES", "first")
            rules(c)
            ssh, unit = ["tests/ssh"], ["tests/unit"]
            if quick:
                os.environ.setdefault("PI_TEST_EXAMPLES", "10")
                changed = suite.changed_files()
                ssh, unit = suite.quick(changed), dependents.unit_tests(changed)
            runs = suite.runs(ssh, unit, in_order=quick)
            code = suite.run(runs, beside=[[f"{BIN}/mypy"]], repeat=not once)
    if code:
        raise Exit(code=code)


@task
def lint(c: Context) -> None:
    """Check rules and format (ruff) and types (mypy)."""
    rules(c)
    c.run(f"{BIN}/mypy")


def rules(c: Context) -> None:
    c.run(f"{BIN}/ruff check .")
    c.run(f"{BIN}/ruff format --check .")


@task
def e2e(c: Context) -> None:
    """Test end to end with the real vLLM (minutes)."""
    from chores import suite

    chosen = [f"e2e and not slow and {which}" for which in ("pods", "not pods")]
    raise Exit(code=suite.run([["-m", each, "tests/e2e", "--timeout", "1500"] for each in chosen]))


@task
def newest(c: Context) -> None:
    """Parse every argument list with the newest release of vLLM, and report options announced for removal."""
    from chores.newest_vllm import provide

    venv, overlay = provide(ROOT / ".cache")
    places = {"PI_E2E_VENV": str(venv), "PI_E2E_OVERLAY": str(overlay)}
    c.run(f"{BIN}/python -m pytest -q -m e2e tests/e2e/test_arguments.py --timeout 1500", env=places)


@task
def advisories(c: Context) -> None:
    """Check the installed packages for known security holes."""
    from chores.advisories import report

    raise Exit(code=report())


@task(help={"stress": "how many starts pi's stress tests interrupt, and how many they kill"})
def slow(c: Context, stress: int = 200) -> None:
    """Test 200 starts on one pod over SSH, 200 that are interrupted and 200 that are killed (half an hour)."""
    c.run(f"{BIN}/python -m pytest -q -m slow tests/ssh", env={"PI_TEST_STRESS": str(stress)})


@task
def rootfs(c: Context) -> None:
    """Set up bare Debian 11, 12 and 13, each in its own root file system (minutes; root only)."""
    if os.geteuid() == 0:
        c.run("sh chores/machine.sh rootfs")
    c.run(f"{BIN}/python -m pytest -q -m rootfs tests/ssh/test_rootfs.py")


@task
def clients(c: Context) -> None:
    """Install llm, opencode, codex, Claude Code and pi-agent, and run them offline through pi (1.2 GB at first)."""
    from chores.clients import provide

    alone = f"{BIN}/python tests/rig/alone.py -m pytest -q -n0 -m clients tests/ssh/test_clients.py"
    c.run(alone, env={"PI_TEST_CLIENTS": str(provide(ROOT / ".cache"))})


@task
def nightly(c: Context) -> None:
    """Test what takes hours: the newest vLLM's parser, real clients, the slow tier, Debians, fuzz, ten suites."""
    newest(c)
    c.run(f"{BIN}/python -m pytest -q -m 'e2e and slow' tests/e2e --timeout 1500", env={"PI_E2E_REQUESTS": "2000"})
    clients(c)
    slow(c)
    rootfs(c)
    os.environ |= {"PI_TEST_EXAMPLES": "400", "PI_TEST_CASES": "all"}
    for _ in range(10):
        test(c, once=True)
    fuzz(c, seconds=3600)


@task(help={"seconds": "how long in all"})
def fuzz(c: Context, seconds: int = 300) -> None:
    """Search for input that breaks a parser (minutes)."""
    from chores.fuzz import report

    raise Exit(code=report(seconds))


@task(help={"until": "setup: stop when the pod is set up"})
def demo(c: Context, until: str = "") -> None:
    """Make this machine a pod and ask a small model."""
    from chores.demo import play

    raise Exit(code=play(ROOT / ".demo", until))


@task(
    help={
        "peers": "next to the TypeScript pi and to ssh, at round trips of 0, 20 and 80 ms (minutes)",
        "starts": "first, second, and second start on another pod, with torch.compile (minutes; after make demo)",
        "rounds": "with --peers or --starts: how often each pair runs",
    }
)
def bench(c: Context, peers: bool = False, starts: bool = False, rounds: int = 9) -> None:
    """Measure pi's speed next to comparable programs."""
    from chores import bench as alone
    from chores import bench_peers, bench_starts

    if starts:
        bench_starts.report(ROOT / ".demo", rounds)
    elif peers:
        bench_peers.report(rounds)
    else:
        alone.report()


@task
def fit_memory(c: Context) -> None:
    """Fit the memory sum to the start-up logs, and hold each log against constants fitted without its family."""
    from chores.memory_logs import report

    report(print)


@task
def messages(c: Context) -> None:
    """Renew the golden files: the texts of all errors, and the settings of clients."""
    from chores import client_goldens
    from chores.messages import GOLDEN, listing

    GOLDEN.write_text(listing(), "utf-8")
    client_goldens.write_all()


@task
def docs(c: Context) -> None:
    """Renew the outputs that README.md and docs/ show."""
    from chores import json_schemas
    from chores.docs import RENEW
    from chores.suite import options

    json_schemas.PAGE.write_text(json_schemas.page(), encoding="utf-8")

    for tests in ("tests/unit/test_docs.py", "tests/ssh/test_docs.py"):
        c.run(shlex.join([f"{BIN}/python", "-m", "pytest", "-q", *options(), "-k", "shows", tests]), env={RENEW: "1"})


@task
def convert(c: Context, markdown: str) -> None:
    """Print a Markdown list of models as TOML for models.toml."""
    from chores.catalog_reader import convert, to_toml

    print(to_toml(convert(Path(markdown).read_text())), end="")


@task
def render(c: Context) -> None:
    """Write the catalog of docs/models.md from models.toml."""
    from chores.catalog_text import PAGE, page
    from pi.planning.catalog import read_toml

    PAGE.write_text(page(read_toml(ROOT / "models.toml")))


@task(
    help={
        "recipes": "JSON of vLLM's recipes (default: the snapshot in chores/data)",
        "sizes": "JSON list of checkpoints with id, gb, source and date (default: the snapshot in chores/data)",
    }
)
def refresh(c: Context, recipes: str = "", sizes: str = "") -> None:
    """Renew the sizes and minimums of models.toml, and list what needs a hand."""
    from chores.refresh import report

    report(ROOT / "models.toml", recipes, sizes)
    render(c)


models = Collection("models", convert, render, refresh)
tiers = (test, lint, e2e, newest, clients, slow, rootfs, nightly)
ns = Collection(*tiers, fuzz, advisories, demo, bench, fit_memory, docs, messages, models, pi)
