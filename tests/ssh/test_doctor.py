"""`pi doctor` on a real pod."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from jsonschema import validate

from chores.json_schemas import shown
from tests.rig.command import Pi
from tests.rig.pod import Pod, kill, until


def test_a_pod_has_a_line_for_each_check_and_faults_say_what_to_do(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    fine = pi("doctor")
    assert fine.code == 0, fine
    document = json.loads(pi.ok("doctor", "box", "--json"))
    validate(document, shown("DoctorJson"))
    levels = {each["check"]: each["level"] for each in document["checks"]}
    assert levels["leftovers"] == levels["disk"] == levels["folder"] == "ok"
    assert levels["token"] == "warning"
    kill(pi.models("box")["qwen"]["pid"])
    assert until((box.home / ".pi/run/qwen/exit").exists)
    half = box.home / ".cache/huggingface/hub/models--ann--half/blobs/x.0123abcd.incomplete"
    half.parent.mkdir(parents=True)
    half.write_bytes(bytes(3 << 20))
    text = pi.ok("doctor")
    assert "warning models    qwen is crashed" in text and "pi restart qwen --pod box" in text
    assert "3 MB of downloads that did not end: ann/half" in text and "pi cache rm ann/half --pod box" in text
    pi.config.chmod(0o755)
    for each in json.loads(pi.ok("doctor", "--json"))["checks"]:
        if each["check"] in ("models", "folder"):
            assert each["level"] == "warning", each
            subprocess.run(
                ["bash", "-c", each["fix"]],
                env={**pi.environment, "PATH": f"{Path(sys.executable).parent}:{pi.environment['PATH']}"},
                check=True,
                capture_output=True,
            )
    left = {each["check"] for each in json.loads(pi.ok("doctor", "--json"))["checks"] if each["level"] != "ok"}
    assert "leftovers" in left and not left & {"models", "folder"}


def test_a_pod_that_does_not_answer_is_a_failure(pi: Pi, box: Pod) -> None:
    box.down()
    done = pi("doctor")
    assert done.code == 1 and "failure ssh" in done.out and "if the pod is gone: pi pods remove box" in done.out
    assert pi("doctor", "nopod").id == "unknown-pod"
