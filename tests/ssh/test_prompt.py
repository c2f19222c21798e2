"""`pi prompt` with a pod's model, over the SSH connection."""

from __future__ import annotations

import json

import pytest

from tests.rig.command import Pi
from tests.rig.pod import Pod, kill
from tests.rig.sshd import free_port
from tests.ssh.conftest import NewPod, Serving


@pytest.mark.core
def test_an_answer_is_streamed_from_the_pod(serving: Serving) -> None:
    pi = serving.pi
    assert "The capital of France is Paris." in pi.ok("prompt", "qwen", "What is the capital of France?")


def test_quiet_and_json_output(serving: Serving) -> None:
    pi = serving.pi
    assert pi.ok("prompt", "qwen", "--quiet", "Capital?") == "The capital of France is Paris.\n"
    events = [json.loads(line) for line in pi.ok("prompt", "qwen", "--json", "Capital?").splitlines()]
    assert events
    assert all(isinstance(event, dict) for event in events)
    assert "Paris" in json.dumps(events)


def test_a_proxy_of_the_laptop_is_not_used(serving: Serving) -> None:
    """A proxy would get the key."""
    pi = serving.pi
    proxy = "http://127.0.0.1:9"
    answer = pi.ok("prompt", "qwen", "--quiet", "Capital?", HTTP_PROXY=proxy, http_proxy=proxy, ALL_PROXY=proxy)
    assert "Paris" in answer


def test_escape_sequences_in_an_answer_are_removed(pi: Pi, box: Pod) -> None:
    box.fault("vllm", say=["\x1b]0;owned\x07safe", "\x1b[2J\x9b31m text"])
    pi.ok("start", box.model(), "--name", "qwen")
    answer = pi.ok("prompt", "qwen", "hi")
    assert "safe" in answer and "text" in answer
    assert "\x1b" not in answer and "\x9b" not in answer


def test_a_wrong_key_fails(serving: Serving) -> None:
    pi = serving.pi
    done = pi("prompt", "qwen", "hi", PI_API_KEY="sk-another-0123456789")
    assert (done.code, done.out) == (1, "")
    assert done.id == "key-refused"
    assert "Traceback" not in done.err


def test_a_crashed_model_is_explained(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    with box.log_of("qwen").open("a") as log:
        log.write("RuntimeError: the reason\n")
    kill(pi.models("box")["qwen"]["pid"])
    done = pi("prompt", "qwen", "hi")
    assert (done.code, done.out, done.id) == (1, "", "model-silent")
    assert "crashed at " in done.err
    assert done.err.endswith(": RuntimeError: the reason\n")


def test_a_model_gone_from_the_pod_is_removed(pi: Pi, box: Pod) -> None:
    pi.knows(box, models={"qwen": {"model": "m", "port": free_port(), "gpus": [], "pid": 4242, "status": "running"}})
    done = pi("prompt", "qwen", "hi")
    assert (done.code, done.id) == (1, "model-silent")
    assert "gone (removed from pods.json)" in done.err
    assert pi.models("box") == {}


def test_a_server_without_tunnels_is_explained(pi: Pi, new_pod: NewPod) -> None:
    pi.knows(
        new_pod(bare=True, options=("AllowTcpForwarding no",)),
        models={"qwen": {"model": "m", "port": 8001, "gpus": [], "pid": 4242, "status": "running"}},
    )
    done = pi("prompt", "qwen", "hi")
    assert (done.code, done.out, done.id) == (3, "", "tunnels-prohibited")
    assert "AllowTcpForwarding yes" in done.err


@pytest.mark.core
def test_an_unknown_name_is_an_input_error(serving: Serving) -> None:
    done = serving.pi("prompt", "qwem", "hi")
    assert (done.code, done.out, done.id) == (2, "", "unknown-name")
    assert "qwem" in done.err and "box" in done.err


ELSEWHERE = ["--base-url", "http://127.0.0.1:9/v1", "--model", "m"]


@pytest.mark.parametrize(
    ("words", "id", "named"),
    [
        (["--temperature", "nan"], "flag-invalid", "--temperature 'nan'"),
        (["--temperature", "hot"], "flag-invalid", "--temperature 'hot'"),
        (["--max-tokens", "-1"], "max-tokens-invalid", "--max-tokens -1"),
        (["--max-rounds", "0"], "max-rounds-invalid", "--max-rounds 0"),
        (["--idle-timeout", "0"], "idle-timeout-invalid", "--idle-timeout 0"),
        (["--idle-timeout", "86401"], "idle-timeout-invalid", "--idle-timeout 86401"),
        (["--tool-choice", "some"], "flag-invalid", "--tool-choice 'some'"),
        (["--api", "legacy"], "flag-invalid", "--api 'legacy'"),
        (["--json", "--quiet"], "flags-conflict", "--json and --quiet"),
        (["--no-tools", "--tool-choice", "required"], "flags-conflict", "--no-tools and --tool-choice required"),
        (["--model", "other"], "flag-requires", "--model requires --base-url"),
        (["--api-key-env", "KEY"], "flag-requires", "--api-key-env requires --base-url"),
        ([*ELSEWHERE, "--pod", "box"], "flags-conflict", "--pod and --base-url"),
        ([*ELSEWHERE, "--api-key-env", "UNSET"], "api-key-env-unset", "UNSET"),
    ],
)
def test_an_invalid_value_is_an_input_error(pi: Pi, words: list[str], id: str, named: str) -> None:
    done = pi("prompt", "qwen", "hi", *words)
    assert (done.code, done.out, done.id) == (2, "", id)
    assert named in done.err


def test_a_model_that_does_not_chat_says_what_it_answers_to(pi: Pi, box: Pod) -> None:
    path = box.model("bge", architectures=["XLMRobertaModel"], model_type="xlm-roberta")
    started = pi.ok("start", path, "--name", "bge")
    assert "/v1/embeddings" in started and "pi prompt" not in started
    assert pi.models("box")["bge"]["api"] == "embedding"
    done = pi("prompt", "bge", "hi")
    assert (done.code, done.out, done.id) == (2, "", "not-a-chat-model")
    assert "bge answers to texts with their embeddings, not to chats" in done.err and "/v1/embeddings" in done.err
    assert pi("prompt", "bge", "hi", "--api", "chat").id != "not-a-chat-model"
