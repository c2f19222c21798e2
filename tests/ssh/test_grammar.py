"""The command line of the installed `pi`: help, wrong calls, exit codes, what it says to someone with no pods."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

import pi as package
from tests.rig.command import KEY, Pi, program
from tests.rig.pod import Pod


def test_help_before_and_after_a_verb_is_the_same(pi: Pi) -> None:
    after, before = pi.ok("pods", "setup", "--help"), pi.ok("--help", "pods", "setup")
    assert after == before
    assert after.startswith("Usage: pi pods setup NAME")
    assert not pi.config.exists()


@pytest.mark.core
def test_help_names_the_environment_and_the_exit_codes(pi: Pi) -> None:
    told = pi.ok("--help")
    assert pi.ok() == told
    for word in ("PI_API_KEY", "HF_TOKEN", "PI_CONFIG_DIR", "PI_LOCK_TIMEOUT", "130"):
        assert word in told


@pytest.mark.parametrize("name", ["pi", "pi-pods"])
def test_both_console_scripts_tell_their_version(name: str) -> None:
    for flag in ("--version", "-V"):
        assert subprocess.check_output([program(name), flag], text=True) == f"pi {package.__version__}\n"


WRONG = [
    ("a verb that is none", ["strat"], "'strat' (did you mean 'start'?); usage: pi VERB"),
    ("a missing operand", ["pods", "active"], "name is missing; usage: pi pods active NAME"),
    ("a flag that is none", ["list", "--pods", "x"], "unknown option --pods (did you mean --pod?); usage: pi list"),
    (
        "an argument that is pi's own",
        ["start", "a/b", "--name", "q", "--vllm", "--port", "1"],
        "may not contain --port",
    ),
]
"""A few through the whole command; tests/unit/cli/test_program.py has them all."""


@pytest.mark.parametrize(("words", "told"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_call_is_one_line_on_stderr(pi: Pi, words: list[str], told: str) -> None:
    done = pi(*words)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert done.err.startswith("pi: ")
    assert done.err.count("\n") == 1


ENVIRONMENT = [
    ("no key", {"PI_API_KEY": ""}, "PI_API_KEY is not set"),
    ("a blank key", {"PI_API_KEY": "   "}, "PI_API_KEY is not set"),
    ("a short key", {"PI_API_KEY": "hunter2"}, "shorter than 16 characters"),
    ("a key with a line break", {"PI_API_KEY": f"{KEY}\n"}, "contains a blank"),
    ("a key outside ASCII", {"PI_API_KEY": f"{KEY}é"}, "non-ASCII"),
]


@pytest.mark.parametrize(("change", "told"), [case[1:] for case in ENVIRONMENT], ids=[case[0] for case in ENVIRONMENT])
def test_a_bad_key_is_refused_before_anything_is_contacted(pi: Pi, change: dict[str, Any], told: str) -> None:
    """The pod does not exist: contacting it would be exit code 3."""
    pi.write({"pods": {"box": {"ssh": "ssh -p 1 root@127.0.0.1"}}, "active": "box"})
    done = pi("start", "a/b", "--name", "q", **change)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert "hunter2" not in done.err and KEY not in done.err


def test_setup_names_both_variables_and_needs_no_token(pi: Pi) -> None:
    done = pi("pods", "setup", "box", "ssh -p 1 root@127.0.0.1", HF_TOKEN="", PI_API_KEY="")
    assert (done.code, done.out) == (2, "")
    assert "HF_TOKEN and PI_API_KEY are not set" in done.err
    done = pi("pods", "setup", "box", "ssh -p 1 root@127.0.0.1", HF_TOKEN="")
    assert done.code == 3, "it got as far as the pod, which does not exist"
    assert done.err.splitlines()[0].startswith("note: HF_TOKEN is not set")


def test_without_pods_the_next_step_is_printed(pi: Pi) -> None:
    assert 'no pods yet; add one: pi pods setup NAME "ssh' in pi.ok("pods")
    for words in (["list"], ["stop"], ["logs", "q"], ["start", "a/b", "--name", "q"], ["prompt", "q", "hi"]):
        done = pi(*words)
        assert (done.code, done.out) == (2, ""), words
        assert "no pods yet; add one: pi pods setup NAME" in done.err
    assert 'no pods yet; plan for a machine: --on "1x H100"; or add a pod: pi pods setup' in pi("plan", "a/b").err


def test_start_alone_lists_what_can_be_started(pi: Pi) -> None:
    assert "Qwen" in pi.ok("start")
    for words in (("--name", "q"), ("--dry-run",), ("--vllm", "--enforce-eager")):
        done = pi("start", *words)
        assert (done.code, done.out) == (2, "")
        assert done.err == "pi: which model? pi start MODEL --name NAME; pi models lists those that pi knows\n"


@pytest.mark.core
def test_words_after_vllm_arrive_as_they_were_typed(pi: Pi, box: Pod) -> None:
    """Also a verb's name, another `--vllm`, `--help`, and what a shell or Invoke would take apart."""
    raw = ["-tp", "4", "--help", "--vllm", "list", "--x=y", "--", "a=b", "x y", "", "$(id)", "ü", '{"a": 1}']
    pi.ok("start", box.model(), "--name", "q", "--vllm", *raw)
    received = box.received("q")["argv"]
    place = received.index("-tp")
    assert received[place : place + len(raw)] == raw


def test_an_option_may_stand_anywhere_and_with_an_equals_sign(pi: Pi, box: Pod) -> None:
    model = box.model()
    pi.ok("start", "--name=q", model, "--context", "4k")
    assert pi.models("box")["q"]["model"] == model
    received = box.received("q")["argv"]
    assert received[received.index("--max-model-len") + 1] == "4096"


def test_the_completion_script_completes_in_a_real_bash(pi: Pi) -> None:
    script = f"""
        PATH={program("pi").parent}:$PATH
        eval "$(pi --print-completion-script bash)"
        COMP_WORDS=(pi pods ac) COMP_CWORD=2
        _pi pi; echo "${{COMPREPLY[@]}}"
    """
    assert subprocess.check_output(["bash", "-c", script], env=pi.environment, text=True) == "active\n"
