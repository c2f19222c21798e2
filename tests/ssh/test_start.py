"""`pi start`: what arrives on the pod, what is written down, what the user is told."""

from __future__ import annotations

from tests.rig.command import KEY, Pi
from tests.rig.pod import Pod, listens


def test_a_started_model_is_ready_known_and_told_how_to_call(pi: Pi, box: Pod) -> None:
    model = box.model()
    told = pi.ok("start", model, "--name", "qwen")
    entry = pi.models("box")["qwen"]
    assert listens(entry["port"])
    assert f"export OPENAI_BASE_URL=http://127.0.0.1:{entry['port']}/v1" in told
    assert KEY not in told
