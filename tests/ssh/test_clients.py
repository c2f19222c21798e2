"""The real clients, offline, with settings that `pi connect --write` made: through pi's tunnel and guard and back.

`inv clients` installs them and runs these tests in a namespace that has loopback alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.rig.alone import OUTER_ADDRESS
from tests.rig.command import KEY, SYSTEM_PATH, Pi
from tests.rig.outside import tries
from tests.rig.pod import Pod
from tests.rig.standin_dialects import ANSWER, CONTEXT
from tests.ssh.conftest import NewPod

pytestmark = pytest.mark.clients

PLACE = "PI_TEST_CLIENTS"
"""Variable with the folder of the clients' commands."""

QUESTION = "What is the capital of France?"


@dataclass(frozen=True)
class Run:
    """How a client asks one question, and the route that it uses."""

    words: tuple[str, ...]
    path: str
    tried: tuple[str, ...] = ()
    """Names that it looks up beside, whatever its settings say; each lookup fails."""


RUNS = {
    "llm": Run(("llm", "-m", "qwen", QUESTION), "/v1/chat/completions"),
    "opencode": Run(
        ("opencode", "run", "-m", "pi-qwen/qwen", QUESTION),
        "/v1/chat/completions",
        ("dns:models.opencode.ai", "dns:registry.npmjs.org"),
    ),
    "codex": Run(
        ("codex", "exec", "--skip-git-repo-check", "-m", "qwen", "-c", "model_provider=pi-qwen", QUESTION),
        "/v1/responses",
        ("dns:ab.chatgpt.com", "dns:github.com"),
    ),
    "claude-code": Run(("claude", "-p", QUESTION), "/v1/messages"),
    "pi-agent": Run(("pi", "-p", "--provider", "pi-qwen", "--model", "qwen", QUESTION), "/v1/chat/completions"),
}


@pytest.fixture
def commands() -> Path:
    assert PLACE in os.environ, "run these tests with: inv clients"
    return Path(os.environ[PLACE])


@pytest.fixture
def served(pi: Pi, new_pod: NewPod) -> Iterator[Pod]:
    """A pod with a private model, whose server speaks the clients' dialects behind pi's guard."""
    pod = new_pod()
    pod.speak_dialects()
    pi.knows(pod)
    pi.ok("start", pod.model(), "--name", "qwen", "--private")
    yield pod
    pi("tunnel", "--close")


def asked(pod: Pod, path: str) -> list[dict[str, Any]]:
    lines = (pod.home / "received" / "requests.jsonl").read_text().splitlines()
    return [found["body"] for found in map(json.loads, lines) if found["path"] == path]


@pytest.mark.parametrize("name", RUNS)
def test_the_answer_comes_back_and_nothing_else_is_reached(
    name: str, pi: Pi, served: Pod, commands: Path, tmp_path: Path
) -> None:
    run = RUNS[name]
    assert shutil.which(run.words[0], path=str(commands)), f"{name} is not installed: inv clients"
    pi.ok("connect", "qwen", "--to", name, "--write")
    if name == "llm":
        keys = pi.home / ".config" / "io.datasette.llm" / "keys.json"
        keys.write_text(json.dumps({"pi": KEY}))
    work = tmp_path / "work"
    work.mkdir()
    environment = {
        "HOME": str(pi.home),
        "PATH": f"{commands}:{SYSTEM_PATH}",
        "PI_API_KEY": KEY,
        "LANG": "C.UTF-8",
    }
    with tries(allowed=(OUTER_ADDRESS,)) as tried:
        done = subprocess.run(
            run.words,
            env=environment,
            cwd=work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=150,
        )
    print(done.stdout, done.stderr, sorted(tried), sep="\n")
    assert done.returncode == 0 and ANSWER in done.stdout
    requests = asked(served, run.path)
    assert requests and all(body["model"] == "qwen" for body in requests)
    limits = [body[key] for body in requests for key in ("max_tokens", "max_completion_tokens") if key in body]
    assert all(limit <= CONTEXT // 4 for limit in limits)
    assert tried <= set(run.tried)
