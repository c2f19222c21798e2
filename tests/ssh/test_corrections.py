"""A start whose first try fails with a number that vLLM states: pi corrects it and tries once more."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.rig.cases import CASES, load
from tests.rig.command import Pi, Running
from tests.rig.pod import Pod, until
from tests.unit.vllm.test_log import Case

SEQUENCES: dict[str, Any] = {"option": "--max-num-seqs", "above": 40}

PLANNED = {"(1024)": "(64)", "856": "40", "256 dummy": "64 dummy"}
"""Numbers of the cases, and what vLLM states instead for `--max-num-seqs 64`, as pi plans a model of unknown size."""


def refuses(box: Pod, case: str, option: dict[str, Any], numbers: Mapping[str, str] = PLANNED, **vllm: Any) -> None:
    """Have vLLM fail with the log of a case as long as an option is out of range."""
    text = load(Case, CASES / "failures" / f"{case}.toml").log
    for number, stated in numbers.items():
        text = text.replace(number, stated)
    log = box.home / f"{case}.log"
    log.write_text(text)
    box.fault("vllm", refuses={**option, "log": str(log)}, **vllm)


@pytest.fixture
def gpus(box: Pod) -> Pod:
    box.cards("h100_8")
    return box


KNOWN = [
    ("too_many_sequences", SEQUENCES, "38"),
    ("context_too_long_with_estimate", {"option": "--max-model-len", "above": 4352}, "4352"),
    ("graph_capture_out_of_memory_in_worker", {"option": "--max-num-seqs", "above": 63}, "16"),
    ("sampler_out_of_memory", {"option": "--max-num-seqs", "above": 63}, "16"),
    ("batch_below_context", {"option": "--max-num-batched-tokens", "below": 8192}, "8192"),
    ("batch_below_image", {"option": "--max-num-batched-tokens", "below": 16384}, "16384"),
]


@pytest.mark.parametrize(("case", "option", "value"), KNOWN, ids=[known[0] for known in KNOWN])
def test_a_number_that_vllm_states_is_corrected_once(
    pi: Pi, gpus: Pod, case: str, option: dict[str, Any], value: str
) -> None:
    refuses(gpus, case, option)
    done = pi("start", gpus.model(), "--name", "qwen")
    name = option["option"]
    assert done.code == 0, done
    assert done.err.count(f"; starting once more with {name} {value}\n") == 1
    assert done.out.count("vLLM is running") == 2
    argv = gpus.received("qwen")["argv"]
    assert argv[argv.index(name) + 1] == value
    assert argv.count(name) == 1
    assert {key: entry["status"] for key, entry in pi.models("box").items()} == {"qwen": "running"}
    assert gpus.records() == ["qwen"]
    assert gpus.log_of("qwen").with_suffix(".log.1").read_text().endswith((gpus.home / f"{case}.log").read_text())


def test_less_free_memory_than_planned_gives_a_smaller_share(pi: Pi, gpus: Pod) -> None:
    log = load(Case, CASES / "failures" / "memory_a_little_short.toml").log.replace("0.95", "0.9")
    (gpus.home / "short.log").write_text(log.replace("21.91", "20.01"))
    option = {"option": "--gpu-memory-utilization", "above": 0.85, "log": str(gpus.home / "short.log")}
    gpus.fault("vllm", refuses=option)
    pi.ok("start", gpus.model(), "--name", "qwen")
    assert pi.models("box")["qwen"]["memory_share"] == gpus.record("qwen")["memory_share"] == 0.85


@pytest.mark.parametrize(
    ("words", "case", "option", "number"),
    [
        (["--context", "8k"], "context_too_long_with_estimate", {"option": "--max-model-len", "above": 4352}, "4352"),
        (["--set", "max-num-seqs=1024"], "too_many_sequences", SEQUENCES, "856"),
        (["--vllm", "--max-num-seqs", "1024"], "too_many_sequences", SEQUENCES, "856"),
    ],
    ids=["--context", "--set", "--vllm"],
)
def test_a_number_that_the_user_set_stays_and_the_hint_names_vllms(
    pi: Pi, gpus: Pod, words: list[str], case: str, option: dict[str, Any], number: str
) -> None:
    refuses(gpus, case, option, numbers={})
    done = pi("start", gpus.model(), "--name", "qwen", *words)
    assert done.code == 6
    assert done.out.count("vLLM is running") == 1
    assert "starting once more" not in done.err
    assert number in done.err.splitlines()[-2]
    assert (pi.models("box"), gpus.records(), gpus.quiet()) == ({}, [], {})


def test_a_second_failure_is_reported_and_not_corrected(pi: Pi, gpus: Pod) -> None:
    refuses(gpus, "too_many_sequences", {**SEQUENCES, "above": 30})
    done = pi("start", gpus.model(), "--name", "qwen")
    assert (done.code, done.id) == (6, "too-many-sequences")
    assert done.out.count("vLLM is running") == 2
    assert done.err.count("starting once more") == 1
    assert (pi.models("box"), gpus.records(), gpus.quiet()) == ({}, [], {})


def second_try(pi: Pi, box: Pod) -> Running:
    """A start whose first try has failed, and whose second waits for the file `go2`."""
    refuses(box, "too_many_sequences", SEQUENCES, load_s=1)
    running = pi.spawn("start", box.model(), "--name", "qwen")
    running.reads("waiting until it is ready")
    assert until((box.home / "received" / "qwen.json").exists)
    box.fault("vllm", load_until="go2")
    assert until(lambda: box.received("qwen")["argv"].count("38") == 1)
    return running


def test_ctrl_c_in_the_second_try_stops_it(pi: Pi, gpus: Pod) -> None:
    running = second_try(pi, gpus)
    running.interrupt()
    assert running.ends().code == 130
    assert (pi.models("box"), gpus.records(), gpus.quiet()) == ({}, [], {})


def drop(box: Pod) -> None:
    """Kill what carries the pod's connections; new ones can be made."""
    carriers = box.sessions()
    assert carriers
    for pid in carriers:
        os.kill(pid, signal.SIGKILL)


def test_a_connection_lost_before_the_question_is_made_good(pi: Pi, gpus: Pod) -> None:
    """The pod asks while pi reconnects; the call that follows passes pi's answer on."""
    refuses(gpus, "too_many_sequences", SEQUENCES, load_until="go")
    running = pi.spawn("start", gpus.model(), "--name", "qwen")
    running.reads("waiting until it is ready")
    drop(gpus)
    (gpus.home / "go").touch()
    done = running.ends()
    assert done.code == 0, done
    assert "connection lost; reconnecting (1/5)" in done.err
    assert done.err.count("starting once more with --max-num-seqs 38") == 1
    assert pi.models("box")["qwen"]["status"] == "running"


def test_a_connection_lost_in_the_second_try_is_made_good(pi: Pi, gpus: Pod) -> None:
    running = second_try(pi, gpus)
    drop(gpus)
    assert until(lambda: not gpus.sessions()) and until(gpus.sessions)
    (gpus.home / "go2").touch()
    done = running.ends()
    assert done.code == 0, done
    assert done.err.count("starting once more") == 1


@pytest.mark.long
@pytest.mark.pace(0.1)
def test_a_pod_that_gets_no_answer_clears_the_failed_start(pi: Pi, gpus: Pod) -> None:
    refuses(gpus, "too_many_sequences", SEQUENCES, load_until="go")
    running = pi.spawn("start", gpus.model(), "--name", "qwen")
    running.reads("waiting until it is ready")
    running.interrupt(signal.SIGKILL)
    running.ends()
    (gpus.home / "go").touch()
    assert until(lambda: gpus.records() == [], patience_s=20)
    assert gpus.quiet() == {}
    assert calls_in(gpus) == []


def calls_in(box: Pod) -> list[Path]:
    """Return the answers that no call has taken."""
    return list((box.home / ".pi" / "calls").glob("*.answer*"))
