"""`pi stop`: it returns when all is gone, and touches nothing that is not the model's."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from tests.rig.command import Pi
from tests.rig.pod import Pod, is_alive, kill, listens, until


@pytest.mark.core
def test_a_stopped_model_is_gone_with_its_port(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    port = pi.models("box")["qwen"]["port"]
    assert pi.ok("stop", "qwen") == "qwen is stopped\n"
    assert not listens(port)
    assert box.quiet(0) == {}
    assert pi.models("box") == {} and box.records() == []
    assert box.log_of("qwen").exists()


def test_one_model_is_stopped_and_the_other_goes_on(pi: Pi, box: Pod) -> None:
    model = box.model()
    for name in ("a", "b"):
        pi.ok("start", model, "--name", name)
    pi.ok("stop", "a")
    assert list(pi.models("box")) == ["b"]
    assert is_alive(pi.models("box")["b"]["pid"])


@pytest.mark.long
def test_without_a_name_only_the_user_chooses_among_several(pi: Pi, box: Pod) -> None:
    model = box.model()
    for name in ("a", "b", "c"):
        pi.ok("start", model, "--name", name)
    done = pi("stop")
    assert (done.code, done.out, done.id) == (2, "", "stop-which")
    assert "3 models run on box: a, b, c; stop one: pi stop NAME --pod box; or all: pi stop -y --pod box" in done.err
    for answer in ("", "q"):
        done = pi.at_terminal("stop", types=f"{answer}\n")
        assert (done.code, done.id) == (2, "stop-none-chosen")
    assert list(pi.models("box")) == ["a", "b", "c"]
    done = pi.at_terminal("stop", types="b\n")
    assert done.code == 0 and "which model of box should stop: a, b, c, or all?" in done.err, done
    assert list(pi.models("box")) == ["a", "c"]
    assert sorted(pi.ok("stop", "-y").splitlines()) == ["a is stopped", "c is stopped"]
    assert box.quiet(0) == {}
    assert pi.models("box") == {}


def test_without_a_name_the_only_model_is_stopped(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "a")
    done = pi("stop")
    assert (done.code, done.out) == (0, "a is stopped\n")
    assert done.err.endswith(
        "no model is left on box; the machine keeps running (and billing) until you end it at the provider\n"
    )
    assert pi.ok("stop") == "nothing runs on box\n"


def test_a_name_that_is_none_is_an_error_of_the_call(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    done = pi("stop", "qwem")
    assert (done.code, done.out) == (2, "")
    assert "no model 'qwem' on box; it has qwen" in done.err
    assert is_alive(pi.models("box")["qwen"]["pid"])


@pytest.mark.core
def test_a_child_that_left_the_session_is_found(pi: Pi, box: Pod) -> None:
    box.fault("vllm", stray=True)
    pi.ok("start", box.model(), "--name", "qwen")
    kill(pi.models("box")["qwen"]["pid"])
    assert any(words.startswith("sleep ") for words in box.processes().values())
    assert "was not running any more; removed what it had left" in pi.ok("stop", "qwen")
    assert box.quiet(0) == {}


def test_a_bystander_that_got_the_pid_survives(pi: Pi, box: Pod) -> None:
    """The model died, and its pid belongs to somebody else by now."""
    pi.ok("start", box.model(), "--name", "qwen")
    kill(pi.models("box")["qwen"]["pid"])
    assert until(lambda: box.quiet() == {})
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as bystander:
        record = {**box.record("qwen"), "pid": bystander.pid, "session": 2**22}
        (box.home / ".pi/run/qwen/record.json").write_text(json.dumps(record))
        state = pi.state()
        state["pods"]["box"]["models"]["qwen"]["pid"] = bystander.pid
        pi.write(state)
        assert "crashed" in pi.ok("list")
        pi.ok("stop", "qwen")
        assert bystander.poll() is None
        bystander.kill()
    assert pi.models("box") == {} and box.records() == []


def test_a_start_that_is_under_way_can_be_stopped(pi: Pi, box: Pod) -> None:
    box.fault("vllm", load_s=60)
    starting = pi.spawn("start", box.model(), "--name", "qwen")
    starting.reads("waiting until it is ready")
    pi.ok("stop", "qwen")
    done = starting.ends()
    assert (done.code, done.id) == (1, "stopped")
    assert "qwen was stopped while it started, by " in done.err and "connection" not in done.err
    assert box.quiet() == {}
    assert box.records() == [] and pi.models("box") == {}


def test_a_download_that_is_under_way_can_be_stopped(pi: Pi, box: Pod) -> None:
    box.fault("hf", seconds=60)
    starting = pi.spawn("start", "Acme/Tiny-1B", "--name", "tiny")
    assert until(lambda: any("hf download" in words for words in box.processes().values()))
    pi.ok("stop", "tiny")
    assert starting.ends().id == "stopped"
    assert box.quiet() == {}
    assert box.records() == [] and pi.models("box") == {}


def test_a_model_known_only_to_the_pod_is_stopped_by_name(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    pi.knows(box)
    assert pi.ok("stop", "qwen") == "qwen is stopped\n"
    assert box.quiet(0) == {}


@pytest.mark.long
def test_a_server_that_ignores_term_is_forced_with_all_its_children(pi: Pi, box: Pod) -> None:
    """Twenty seconds are the server's to end in peace."""
    box.fault("vllm", ignore_term=True, child=True, stray=True)
    pi.ok("start", box.model(), "--name", "qwen")
    done = pi("stop", "qwen")
    assert (done.code, done.out) == (0, "qwen is stopped (forced after 20 s)\n")
    assert re.search("waiting for [45] processes to end", done.err)  # the watchdog may have ended
    assert box.quiet(0) == {}
    assert box.records() == []


def test_a_model_whose_record_is_damaged_or_gone_is_listed_and_stopped(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    pid, run = pi.models("box")["qwen"]["pid"], box.home / ".pi" / "run"
    (run / "qwen" / "record.json").write_text("{")
    assert "but its record on the pod is damaged: it is not valid JSON; pi stop qwen stops it" in pi.ok("list")
    shutil.rmtree(run)
    assert "but the pod has no record of it; pi stop qwen stops it" in pi.ok("list")
    assert pi.models("box")["qwen"]["pid"] == pid
    assert pi("start", str(box.home / "models" / "m"), "--name", "qwen").id == "name-taken"
    assert pi.ok("stop") == "qwen is stopped; it ran without a valid record on the pod\n"
    assert pi.models("box") == {} and box.quiet(0) == {}


def test_a_pod_whose_files_others_may_write_is_not_used(pi: Pi, box: Pod) -> None:
    own = box.home / ".pi"
    own.chmod(0o777)
    pi.ok("list")
    assert own.stat().st_mode & 0o777 == 0o700
    (own / "env.sh").chmod(0o666)
    done = pi("list")
    assert (done.code, done.id) == (1, "not-private")
    assert "other users may write ~/.pi/env.sh on the pod" in done.err
