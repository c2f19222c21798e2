"""`pi pull` and `pi cache`: models on a pod's disk."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from jsonschema import validate

from chores.json_schemas import shown
from tests.rig.command import Pi
from tests.rig.cutting_hub import cutting_hub
from tests.rig.pod import Pod, kill, make_venv, until
from tests.ssh.conftest import NewPod

MODEL = "ann/small"


def fetchers(box: Pod) -> list[int]:
    return [pid for pid, words in box.processes().items() if f"hf download {MODEL}" in words]


@pytest.mark.long
def test_a_model_is_fetched_beside_a_running_one_listed_started_and_deleted(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "first")
    text = pi.ok("pull", MODEL)
    assert f"fetching {MODEL} to box" in text and f"{MODEL} is on box (1 MB) after" in text
    assert f"{MODEL} was already on box (1 MB)" in pi.ok("pull", MODEL)
    box.fault("hf", fail="not_found")  # a start must not fetch it again
    pi.ok("start", MODEL, "--name", "small")
    table = pi.ok("cache")
    models, _, compiled = table.partition("\n\n")
    assert [line.split()[0] for line in models.splitlines()[1:-1]] == [MODEL]
    [code] = [line.split() for line in compiled.splitlines()[1:-1]]
    assert code[0].startswith("vllm-") and code[-2:] == ["first,", "small"]
    assert table.splitlines()[1].endswith("small") and "1 MB of models on box" in table
    document = json.loads(pi.ok("cache", "--json"))
    validate(document, shown("CacheJson"))
    assert document["models"][0]["used_by"] == ["small"]
    done = pi("cache", "rm", code[0], "-y")
    assert (done.code, done.id) == (5, "in-use") and f"{code[0]} is in use by first, small" in done.err
    done = pi("cache", "rm", MODEL, "-y")
    assert (done.code, done.id) == (5, "in-use") and "ann/small is in use by small" in done.err
    pi.ok("stop", "small")
    assert f"did you mean {MODEL}? pi cache lists" in pi("cache", "rm", f"{MODEL}s").err
    done = pi("cache", "rm", MODEL)
    assert (done.code, done.id) == (2, "cache-rm-unconfirmed")
    assert pi.at_terminal("cache", "rm", MODEL, types="n\n").code == 2
    assert pi.ok("cache", "rm", MODEL, "-y") == f"deleted {MODEL} from box: 1 MB\n"
    assert pi("cache", "rm", MODEL, "-y").id == "not-cached"
    pi.ok("stop", "first")
    assert pi.ok("cache", "rm", code[0], "-y").startswith(f"deleted {code[0]} from box: ")
    document = json.loads(pi.ok("cache", "--json"))
    assert document["models"] == document["compiled"] == []


def test_several_pods_fetch_at_the_same_time(pi: Pi, new_pod: NewPod) -> None:
    one, two = new_pod("one"), new_pod("two")
    pi.knows(one, two)
    two.fault("hf", fail="not_found")
    done = pi("pull", MODEL, "--all-pods")
    assert (done.code, done.id) == (1, "pods-failed") and "1 of 2 pods failed: two" in done.err
    assert f"fetching {MODEL} to two" in done.out and f"{MODEL} is on one (1 MB) after" in done.out
    two.fault("hf")
    text = pi.ok("pull", MODEL, "-p", "one,two")
    assert f"{MODEL} was already on one (1 MB)" in text and f"{MODEL} is on two (1 MB) after" in text


MB = 1 << 20

WEIGHTS = os.urandom(MB) * 36
"""The hub's client keeps pieces of 10 MiB: of less than that it starts again."""

REAL_HF = f"""#!{sys.executable}
import time
time.sleep = lambda seconds: None  # the client waits 1 s after each cut
from huggingface_hub.cli.hf import main
main()
"""


@pytest.mark.long
def test_a_pull_that_is_cut_ten_times_ends_whole(pi: Pi, new_pod: NewPod, tmp_path: Path) -> None:
    """The real `hf download`, from a hub that cuts its connections: it gives up once, and pi tries again."""
    with cutting_hub({"config.json": b"{}", "model.safetensors": WEIGHTS}) as hub:
        box = new_pod(environment={"HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1", "PI_TEST_PACE": "0.1"})
        own = make_venv(tmp_path / "own")
        (own / "bin/hf").write_text(REAL_HF)
        (box.home / "venv").unlink()
        (box.home / "venv").symlink_to(own)
        pi.knows(box)
        hub.cuts = [11 * MB, 12 * MB, *[MB] * 8]
        done = pi("pull", MODEL, timeout_s=240)
        assert done.code == 0, done
        assert hub.cuts == [] and f"the connection broke while {MODEL} came; trying again (2 of 5)" in done.err
        assert hub.ranges[:3] == ["", f"bytes={10 * MB}-", f"bytes={20 * MB}-"], "it continues within a file"
        [blob] = (box.home / ".cache/huggingface/hub").glob("models--ann--small/snapshots/*/model.safetensors")
        assert blob.read_bytes() == WEIGHTS
        [cached] = json.loads(pi.ok("cache", "--json"))["models"]
        assert (cached["size_bytes"], cached["unfinished_bytes"]) == (36 * MB + 2, 0)
        assert f"{MODEL} was already on box" in pi.ok("pull", MODEL)


def test_a_pull_whose_download_was_killed_continues(pi: Pi, box: Pod) -> None:
    box.fault("hf", seconds=2.0)
    pull = pi.spawn("pull", MODEL)
    assert until(lambda: fetchers(box))
    kill(fetchers(box)[0])
    assert pull.ends().code == 1
    assert box.quiet() == {}
    box.fault("hf")
    assert f"{MODEL} is on box" in pi.ok("pull", MODEL)
    [cached] = json.loads(pi.ok("cache", "--json"))["models"]
    assert (cached["size_bytes"] >= MB, cached["unfinished_bytes"]) == (True, 0)


@pytest.mark.long
def test_a_download_that_stands_still_is_tried_without_xet(pi: Pi, new_pod: NewPod) -> None:
    box = new_pod(environment={"PI_TEST_PACE": "0.04"})
    pi.knows(box)
    box.fault("hf", hangs=True)
    done = pi("pull", MODEL)
    assert done.code == 0, done
    assert f"no byte of {MODEL} came for 180 s; trying again without xet" in done.err
    assert box.received("hf")["env"]["HF_HUB_DISABLE_XET"] == "1"


def test_a_path_needs_no_pull(pi: Pi, box: Pod) -> None:
    done = pi("pull", "/models/x")
    assert (done.code, done.id) == (2, "pull-path")
