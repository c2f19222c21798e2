"""`pi restart`: the same options again."""

from __future__ import annotations

import json

import pytest

from tests.rig.command import Pi
from tests.rig.pod import Pod, is_alive, kill, until


@pytest.mark.long
def test_a_model_starts_again_with_its_options_also_after_a_crash(pi: Pi, box: Pod) -> None:
    options = ("--private", "--context", "4k", "--set", "max-num-seqs=7", "--env", "OMP_NUM_THREADS=3")
    pi.ok("start", box.model(), "--name", "qwen", *options)
    before, first = pi.models("box")["qwen"], box.received("qwen")
    text = pi.ok("restart", "qwen")
    assert text.startswith("qwen is stopped\n") and "qwen is ready on box" in text
    after, second = pi.models("box")["qwen"], box.received("qwen")
    assert second["argv"] == first["argv"] and second["env"]["OMP_NUM_THREADS"] == "3"
    assert (after["options"], after["private"]) == (before["options"], True)
    assert after["pid"] != before["pid"] and not is_alive(before["pid"])
    kill(after["pid"])
    assert until((box.home / ".pi/run/qwen/exit").exists)
    pi.ok("list")
    assert "qwen is ready on box" in pi.ok("restart", "qwen")
    assert box.received("qwen")["argv"] == first["argv"]
    pi.state_file.unlink()
    pi.knows(box)
    pi.ok("list")
    assert pi.models("box")["qwen"]["options"] == before["options"], "the pod keeps them too"


def test_a_detached_start_keeps_its_options(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen", "--context", "4k", "--detach")
    pi.ok("wait", "qwen")
    assert pi.models("box")["qwen"]["options"]["context"] == "4k"


def test_a_model_that_could_not_start_again_runs_on(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    pid = pi.models("box")["qwen"]["pid"]
    document = json.loads(pi.state_file.read_text())
    saved = document["pods"]["box"]["models"]["qwen"]
    for options, id in (({}, "options-unknown"), ({"model": "/models/x", "contxt": "1"}, "options-invalid")):
        saved["options"] = options
        pi.write(document)
        done = pi("restart", "qwen")
        assert (done.code, done.id) == (2, id), done
    saved["options"] = {"model": saved["model"], "gpus": "9"}
    pi.write(document)
    assert pi("restart", "qwen").code == 2
    assert is_alive(pid)
    assert pi("restart", "other").id == "unknown-name"
