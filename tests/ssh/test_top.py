"""`pi top`: the figures of a server's own /metrics and of nvidia-smi, over one connection."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios

from jsonschema import validate

from chores.json_schemas import shown
from tests.rig.command import KEY, Pi, program
from tests.rig.pod import Pod, until


def on_a_screen(pi: Pi, text: str) -> str:
    """Run `pi top` on a terminal until it shows a text, then press Ctrl+C. Returns what it drew."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    environment = {**pi.environment, "TERM": "xterm"}
    running = subprocess.Popen([program("pi"), "top"], env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    drawn = b""
    with contextlib.suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:
        while text.encode() not in drawn and (chunk := terminal.read(65536)):
            drawn += chunk
        running.send_signal(signal.SIGINT)
        while chunk := terminal.read(65536):
            drawn += chunk
    assert running.wait(20) == 0, drawn
    assert text.encode() in drawn and drawn.endswith(b"\x1b[?25h\x1b[?1049l"), drawn  # the terminal is as before
    return drawn.decode()


def test_figures_of_models_and_gpus(pi: Pi, box: Pod) -> None:
    box.cards("h100_8", count=2, columns={"utilization.gpu": "40", "temperature.gpu": "61", "power.draw": "300.5"})
    box.fault("vllm", requests=[2, 1])
    pi.ok("start", box.model(), "--name", "qwen")
    pi.ok("prompt", "qwen", "What is the capital of France?")
    (box.home / ".pi/keys").mkdir(mode=0o700, exist_ok=True)
    (box.home / ".pi/keys/counts.json").write_text(json.dumps({"": [7, 1]}))  # a guard's; the stand-in has none
    document = json.loads(pi.ok("top", "--once", "--json"))
    validate(document, shown("TopJson"))
    [found] = document["pods"]
    assert (found["pod"], found["problem"], found["error"]) == ("box", None, None)
    [model] = found["models"]
    assert (model["name"], model["state"], model["requests_running"], model["requests_waiting"]) == (
        "qwen",
        "running",
        2,
        1,
    )
    assert (model["generation_tokens_per_s"], model["kv_share"], model["prefix_share"]) == (0, 0.25, 0.25)
    assert (model["ttft_p50_s"], model["itl_p95_s"]) == (0.15, 0.195)
    [key] = found["keys"]
    assert (key["name"], key["requests"], key["requests_per_s"]) == (None, 7, 0) and key["idle_seconds"] is not None
    gpu = found["gpus"][0]
    assert (gpu["use_percent"], gpu["celsius"], gpu["watts"]) == (40, 61, 300.5) and gpu["memory_mib"] > 80000
    table = pi.ok("top", "--once").splitlines()
    assert table[0].split()[:4] == ["MODEL", "STATE", "RUN", "WAIT"] and table[1].split()[:4] == [
        "qwen",
        "running",
        "2",
        "1",
    ]
    assert [line.split()[:3] for line in table[-2:]] == [["KEY", "REQUESTS", "REQ/S"], ["(PI_API_KEY)", "7", "0"]]
    assert any("40 %" in line and "61 °C" in line for line in table)
    scraped = pi("top", "--prometheus")
    port = pi.models("box")["qwen"]["port"]
    assert f'targets: ["127.0.0.1:{port}"]' in scraped.out and KEY not in scraped.out
    assert pi("top").id == "no-terminal"
    assert "qwen" in on_a_screen(pi, "40 %")
    (box.home / "venv").rename(box.home / "venv-away")  # another Python then runs pi's program
    (box.home / "venv").mkdir()
    bare = json.loads(pi.ok("top", "--once", "--json"))["pods"][0]
    assert "prometheus_client is missing" in bare["problem"] and bare["models"][0]["requests_running"] is None
    assert until(lambda: not any("nvidia-smi" in words for words in box.processes().values()))
