"""`pi start` with `--set`, `--env` and `--lora`: what the pod checks, fetches and serves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.rig.command import Done, Pi
from tests.rig.hub import hub
from tests.rig.pod import Pod, until
from tests.ssh.conftest import NewPod


def received(box: Pod, name: str) -> Any:
    return json.loads((box.home / "received" / f"{name}.json").read_text())


def nothing_was_done(pi: Pi, box: Pod, done: Done) -> None:
    assert (done.code, done.out.count("ready")) == (2, 0), done
    assert not (box.home / "received" / "hf.json").exists()
    assert (pi.models("box"), box.records(), box.quiet()) == ({}, [], {})


def test_settings_and_variables_arrive_and_were_read_by_vllm_before(pi: Pi, box: Pod) -> None:
    words = ["--set", "max_num_seqs=2", "--set=response-role=it's a $(touch pwned)", "--env", "NCCL_DEBUG=a b"]
    told = pi.ok("start", box.model(), "--name", "q", *words)
    server = box.received("q")
    assert server["argv"].count("--max-num-seqs") == 0 and "--max-num-seqs=2" in server["argv"]
    assert "--response-role=it's a $(touch pwned)" in server["argv"]
    assert server["env"]["NCCL_DEBUG"] == "a b"
    assert received(box, "arguments") == server["argv"]
    assert "set by you: max-num-seqs=2" in told and "environment set by you: NCCL_DEBUG" in told
    assert not list(box.home.rglob("pwned"))


def test_an_argument_that_vllm_rejects_stops_before_the_download(pi: Pi, box: Pod) -> None:
    box.fault("arguments", unknown=["--max-num-sequences"])
    done = pi("start", "Acme/Tiny-1B", "--name", "q", "--set", "max-num-sequences=2")
    assert done.id == "bad-arguments"
    assert "unrecognized arguments: --max-num-sequences=2 (did you mean --max-num-seqs?)" in done.err
    nothing_was_done(pi, box, done)


@pytest.mark.long
def test_words_longer_than_a_pipe_are_read(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "q", "--set", f"response-role={'x' * 100_000}")
    assert len(received(box, "arguments")[-1]) > 100_000


REJECTED = [
    (["--set", "max-num-seqs=many"], "argument --max-num-seqs: invalid int value: 'many'"),
    (["--set", "tool-call-parser=hermez"], "unknown parser 'hermez' (did you mean hermes?)"),
    (["--vllm", "--enable-auto-tool-choice"], "--enable-auto-tool-choice requires --tool-call-parser"),
]


@pytest.mark.parametrize(("words", "told"), REJECTED, ids=["a value", "a parser", "a combination"])
def test_vllms_own_line_is_shown(pi: Pi, box: Pod, words: list[str], told: str) -> None:
    done = pi("start", "Acme/Tiny-1B", "--name", "q", *words)
    assert done.id == "bad-arguments"
    assert told in done.err
    nothing_was_done(pi, box, done)


def test_a_vllm_that_gives_no_verdict_rejects_nothing(pi: Pi, box: Pod) -> None:
    box.fault("arguments", broken=True)
    pi.ok("start", box.model(), "--name", "q", "--set", "max-num-seqs=many")


def test_a_start_without_words_of_the_user_is_not_checked(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "q", "--context", "4k")
    assert not (box.home / "received" / "arguments.json").exists()


def test_a_variable_that_this_vllm_does_not_read_is_a_note(pi: Pi, box: Pod) -> None:
    done = pi("start", box.model(), "--name", "q", "--env", "VLLM_ATTENTION_BACKEND=X", "--env", "NCCL_DEBUG=INFO")
    assert done.code == 0
    assert done.err.count("this vLLM does not read the variable VLLM_ATTENTION_BACKEND") == 1
    assert "NCCL_DEBUG" not in done.err


@pytest.mark.long
def test_a_plan_is_read_by_the_pods_vllm_too(pi: Pi, box: Pod) -> None:
    words = ["Acme/Tiny-1B", "--set", "max-num-seqs=2"]
    told = pi.ok("plan", *words, "--env", "VLLM_ATTENTION_BACKEND=X")
    assert "note      this vLLM does not read the variable VLLM_ATTENTION_BACKEND" in told
    assert received(box, "arguments")[:2] == ["serve", "Acme/Tiny-1B"]
    for command in (["plan"], ["start", "--name", "q", "--dry-run"]):
        done = pi(*command, "Acme/Tiny-1B", "--set", "max-num-seqs=many")
        assert done.id == "bad-arguments"
        assert "argument --max-num-seqs: invalid int value: 'many'" in done.err
        nothing_was_done(pi, box, done)
    refused = pi("plan", "Acme/Tiny-1B", "--set", "max-num-seqs=many", "--json")
    assert (refused.code, list(json.loads(refused.out))) == (2, ["refused"])


def test_an_interrupt_while_vllm_reads_the_arguments_leaves_nothing(pi: Pi, box: Pod) -> None:
    box.fault("arguments", seconds=60)
    running = pi.spawn("start", "Acme/Tiny-1B", "--name", "q", "--set", "max-num-seqs=2")
    assert until(lambda: any("object_to" in words for words in box.processes().values()))
    running.interrupt()
    assert running.ends().code == 130
    assert (pi.models("box"), box.records(), box.quiet()) == ({}, [], {})
    assert not (box.home / "received" / "hf.json").exists()


def test_an_adapter_is_fetched_and_answers_to_its_name(pi: Pi, new_pod: NewPod) -> None:
    config = {"r": 32, "base_model_name_or_path": "Acme/Tiny-1B"}
    with hub({"adapter_model.safetensors": 1024}, {"adapter_config.json": config}) as address:
        box = new_pod(environment={"HF_ENDPOINT": address})
        pi.knows(box)
        told = pi.ok("start", box.model(), "--name", "q", "--lora", "sql=me/sql-lora")
    argv = box.received("q")["argv"]
    place = argv.index("--enable-lora")
    assert argv[place : place + 5] == ["--enable-lora", "--lora-modules", "sql=me/sql-lora", "--max-lora-rank", "32"]
    assert received(box, "hf--me--sql-lora")["argv"][1] == "me/sql-lora"
    assert "adapter sql: me/sql-lora, rank 32" in told and "(or q, or its adapter sql)" in told
    assert (pi.models("box")["q"]["adapters"], box.record("q")["adapters"]) == (["sql"], ["sql"])
    assert "Paris" in pi.ok("prompt", "sql", "Capital?")
    assert received(box, "asked")["model"] == "sql"


def test_an_adapter_on_the_pod_is_not_fetched(pi: Pi, box: Pod) -> None:
    adapter = box.home / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 8, "rank_pattern": {"q_proj": 64}}')
    pi.ok("start", box.model(), "--name", "q", "--lora", f"sql={adapter}")
    argv = box.received("q")["argv"]
    assert argv[argv.index("--max-lora-rank") + 1] == "64"
    assert not (box.home / "received" / "hf.json").exists()
    done = pi("plan", box.model("n"), "--lora", f"sql={adapter}x")
    assert (done.code, done.id) == (1, "no-such-path")


def test_repositories_in_arguments_are_fetched_before_vllm_starts(pi: Pi, box: Pod) -> None:
    """A tokenizer without its weights, a draft model with them; a second start fetches neither."""
    (box.home / "me" / "local").mkdir(parents=True)
    words = ["--set", "tokenizer=me/tokens", "--set", "tokenizer-revision=v1", "--set", "hf-config-path=me/local"]
    words += ["--set", 'speculative-config={"model": "me/draft", "num_speculative_tokens": 2}']
    model = box.model()
    assert "also      me/tokens, me/local, me/draft, unless already on the pod" in pi.ok("plan", model, *words)
    pi.ok("start", model, "--name", "q", *words, "--env", "HF_HUB_DOWNLOAD_TIMEOUT=60")
    tokens, draft = received(box, "hf--me--tokens"), received(box, "hf--me--draft")["argv"]
    assert tokens["argv"][:3] == ["download", "me/tokens", "--revision=v1"]
    assert "*.safetensors" in tokens["argv"] and "*.safetensors" not in draft
    assert tokens["env"]["HF_HUB_DOWNLOAD_TIMEOUT"] == "60"
    assert not (box.home / "received" / "hf--me--local.json").exists()
    for path in (box.home / "received").glob("hf*.json"):
        path.unlink()
    pi.ok("start", model, "--name", "r", *words)
    assert not list((box.home / "received").glob("hf*.json"))


def test_a_revision_of_the_model_is_fetched(pi: Pi, box: Pod) -> None:
    pi.ok("start", "Acme/Tiny-1B", "--name", "q", "--set", "revision=v2")
    assert received(box, "hf")["argv"][:3] == ["download", "Acme/Tiny-1B", "--revision=v2"]
