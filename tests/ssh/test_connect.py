"""`pi connect` with a running model: what it prints works, and what it writes can be undone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.rig.command import KEY, Pi
from tests.rig.pod import Pod
from tests.ssh.conftest import Serving

ASKS = '"messages": [{"role": "user", "content": "Say hello."}]'


def run(words: list[str], pi: Pi) -> str:
    return subprocess.check_output(words, env=pi.environment, text=True, timeout=60)


def test_printed_commands_and_settings_reach_the_model(serving: Serving) -> None:
    pi = serving.pi
    port = pi.models("box")["qwen"]["port"]
    curl = pi.ok("connect", "qwen", "--to", "curl")
    assert f"http://127.0.0.1:{port}/v1" in curl and KEY not in curl and ASKS in curl
    assert '"content": " of France"' in run(["sh", "-c", curl.replace(ASKS, f'"stream": true, {ASKS}')], pi)
    python = pi("connect", "qwen", "--to", "python")
    assert python.code == 0 and "OpenAI(" in python.out and "run: python hello.py" in python.err
    compile(python.out, "hello.py", "exec")
    done = pi("connect", "qwen", "--to", "claude-code")
    settings = json.loads(done.out.partition("\n")[2])
    assert settings["env"]["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "2048"
    assert run(settings["apiKeyHelper"].split(), pi) == f"{KEY}\n"
    assert "warning: claude-code needs a context of about 32,000 tokens, and qwen has 8,192" in done.err


def test_settings_of_two_clients_are_written_and_undone(serving: Serving) -> None:
    pi = serving.pi
    port = pi.models("box")["qwen"]["port"]
    opencode = pi.home / ".config" / "opencode" / "opencode.json"
    opencode.parent.mkdir(parents=True)
    opencode.write_text('{"theme": "dark"} // mine\n')
    codex = pi.home / ".codex" / "config.toml"
    assert f"wrote {opencode}" in pi.ok("connect", "qwen", "--to", "opencode", "--write")
    assert f"wrote {codex}" in pi.ok("connect", "qwen", "--to", "codex", "--write")
    text = opencode.read_text()
    assert text.endswith(" // mine\n") and f"http://127.0.0.1:{port}/v1" in text and '"context": 8192' in text
    assert KEY not in text + codex.read_text()
    assert "model_context_window = 8192" in codex.read_text()
    assert pi.ok("connect", "qwen", "--to", "opencode", "--undo") == f"{opencode} is as it was before\n"
    assert opencode.read_text() == '{"theme": "dark"} // mine\n'
    assert pi.ok("connect", "qwen", "--to", "codex", "--undo") == f"{codex} is as it was before\n"
    assert not codex.exists()
    opencode.write_text("{")
    broken = pi("connect", "qwen", "--to", "opencode", "--write")
    assert (broken.code, broken.id) == (2, "client-file-invalid") and opencode.read_text() == "{"
    opencode.unlink()


def test_wrong_words_are_refused(serving: Serving) -> None:
    pi = serving.pi
    assert pi("connect", "qwen", "--to", "emacs").id == "client-unknown"
    assert pi("connect", "qwen", "--to", "curl", "--write").id == "client-without-file"
    assert pi("connect", "nobody", "--to", "curl").id == "unknown-name"
    assert pi("connect", "qwen", "--to", "codex", "--undo").id == "client-not-connected"


@pytest.fixture
def private(pi: Pi, box: Pod) -> Iterator[Pi]:
    pi.ok("start", box.model(), "--name", "qwen", "--private")
    yield pi
    pi("tunnel", "--close")


@pytest.mark.long
def test_a_private_model_is_reached_by_its_tunnel(private: Pi) -> None:
    shown = private("connect", "qwen", "--to", "curl")
    assert "note: qwen needs a tunnel; open it: pi tunnel qwen --background --port" in shown.err
    written = private("connect", "qwen", "--to", "opencode", "--write")
    assert written.code == 0 and "by a tunnel" in written.err
    [tunnel] = json.loads(private.ok("tunnel", "--list", "--json"))["tunnels"]
    document = json.loads((private.home / ".config" / "opencode" / "opencode.json").read_text())
    url = document["provider"]["pi-qwen"]["options"]["baseURL"]
    assert url == tunnel["url"]
    asks = "import openai, sys; print(openai.OpenAI(base_url=sys.argv[1]).models.list().data[0].id)"
    assert private.models("box")["qwen"]["model"] in subprocess.check_output(
        [sys.executable, "-c", asks, url], env={**private.environment, "OPENAI_API_KEY": KEY}, text=True
    )
