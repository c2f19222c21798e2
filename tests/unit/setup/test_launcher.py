"""launch.sh, the launcher of a model: which ends of a server it takes for a failure."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pi.calls.templates import render

DEAD = (
    "(APIServer pid=1) WARNING 11-30 10:19:11 [core_client.py:817] [shutdown] MPClient: engine core exited unexpectedly"
)

RAISED = "(APIServer pid=1) ERROR 11-30 10:19:11 [async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: x"

ENDS = {
    "a failure": ("", 1, 3),
    "killed": ("", 137, 3),
    "its engine died, and vLLM exits with 0": (DEAD, 0, 3),
    "its engine died, with an exception": (RAISED, 0, 3),
    "it ends by itself": ("INFO:     Finished server process [1]", 0, 1),
}


@pytest.mark.parametrize(("last", "code", "servers"), ENDS.values(), ids=ENDS)
def test_a_server_starts_again_after(last: str, code: int, servers: int, tmp_path: Path) -> None:
    run, program = tmp_path / ".pi/run/q", tmp_path / "venv/bin/vllm"
    for folder in (run, program.parent):
        folder.mkdir(parents=True)
    (run / "key").write_text("sk-1")
    (run / "record.json").write_text('{"status": "running"}')
    program.write_text(f"#!/bin/sh\necho started\necho '{last}'\nexit {code}\n")
    program.chmod(0o755)
    values = {"name": "q", "instance": "i", "venv": "venv", "port": 8001, "restarts": 2, "idle_s": None}
    values |= {"watch": False, "api": "chat", "on_idle": None, "peers": []}
    (run / "launch.sh").write_text(render("launch.sh.j2", **values, environment={}, argv=["vllm", "serve", "a/b"]))
    log = tmp_path / "q.log"
    log.write_text(f"of an earlier server: {DEAD}\n")
    given = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PI_TEST_PACE": "0.01"}
    with log.open("ab") as output:
        subprocess.run(["bash", run / "launch.sh"], env=given, stdout=output, stderr=output, start_new_session=True)
    text = log.read_text()
    assert text.count("started\n") == servers, text
    assert (run / "exit").read_text().startswith(f"{code} ")
