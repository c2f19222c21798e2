"""What pi says of a pod that it cannot reach, and of a model that is elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pi.errors import UnreachableError
from pi.pods import state
from pi.pods.types import Deployment, Pod, State
from pi.steps import where


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))


BOX = Pod("box", "ssh root@192.0.2.1")


def model(name: str = "qwen", **options: Any) -> Deployment:
    return Deployment(name, "a/b", 8001, (0,), 77, options=options)


ENDS: list[tuple[Pod, str]] = [
    (BOX, ""),
    (replace(BOX, on_idle="keep-pod"), ""),
    (replace(BOX, on_idle="stop-pod"), "stop-pod"),
    (BOX.with_model(model()), ""),
    (BOX.with_model(model(**{"stop-after-idle": "30m", "on-idle": "sudo poweroff"})), "sudo poweroff"),
]


@pytest.mark.parametrize(("pod", "way"), ENDS)
def test_an_unreachable_pod_may_have_ended_itself(pod: Pod, way: str) -> None:
    error = where.unreachable(pod, UnreachableError("ssh-refused", "192.0.2.1:22 refused the connection"))
    begin = f"it may have ended itself (--on-idle {way}); start it at its provider, or, " if way else ""
    assert error.hint == f"{begin}check the connection ({BOX.ssh})"


def test_a_model_of_another_pod_is_found_there() -> None:
    lab = Pod("lab", "ssh lab").with_model(model("kimi"))
    state.change(lambda before: State({"box": BOX.with_model(model()), "lab": lab}, "box"))
    box = state.load().pods["box"]
    assert where.unknown_model("kimi", box).render() == "pi: no model 'kimi' on box; it is on lab: add --pod lab"
    assert where.unknown_model("kim", box).render() == "pi: no model 'kim' on box; it has qwen; see: pi list"
    assert where.unknown_model("kim", box, ()).render() == "pi: no model 'kim' on box; it has none; see: pi list"
    assert (where.flag_for("box"), where.flag_for("lab")) == ("", " --pod lab")
