"""`pi plan --on` and `pi models --on`: machines that nobody rented yet, with prices; no pod is known or contacted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.rig.command import Pi
from tests.ssh.test_plan import CONFIG, line

CATALOG_MODEL = "Qwen/Qwen3-32B"


@pytest.fixture
def folder(pi: Pi) -> Path:
    """A model of 16 GB in the directory in which pi runs."""
    path = pi.home / "mine"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    with (path / "model.safetensors").open("wb") as file:
        file.truncate(16 * 10**9)
    return path


def keep_prices(pi: Pi, text: str) -> None:
    pi.config.mkdir(exist_ok=True)
    (pi.config / "prices.toml").write_text(text)


def planned(pi: Pi, *words: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(pi.ok("plan", *words, "--json"))
    return made


def test_plan_needs_no_pod(pi: Pi) -> None:
    output = pi.ok("plan", CATALOG_MODEL, "--on", "2x RTX 4090")
    assert line(output, "machine") == "2x RTX 4090, idle, not a pod"
    assert line(output, "GPUs") == "0,1"
    assert line(output, "download") == "32 GB"
    assert "because   planned for vLLM " in output and "the newest that pi's catalog names" in output
    assert "price" not in output
    assert not pi.config.exists()


def test_other_options_of_a_plan_work_on_a_machine(pi: Pi) -> None:
    words = ("--variant", "fp8", "--gpus", "4", "--context", "8k", "--memory", "80%")
    made = planned(pi, CATALOG_MODEL, "--on", "8x H100", *words)
    assert (made["variant"], made["gpus"], made["context"]) == ("fp8", [0, 1, 2, 3], 8192)
    assert made["args"][made["args"].index("--gpu-memory-utilization") + 1] == "0.8"
    raw = json.loads(pi.ok("plan", CATALOG_MODEL, "--on", "h100", "--json", "--vllm", "--max-num-seqs", "3"))
    assert (raw["args"], raw["max_num_seqs"]) == (["--max-num-seqs", "3"], 3)
    assert planned(pi, "HuggingFaceTB/SmolLM2-135M-Instruct", "--on", "CPU")["gpus"] == []


def test_pod_and_machine_exclude_each_other(pi: Pi) -> None:
    for words in (["plan", CATALOG_MODEL], ["models"]):
        done = pi(*words, "--on", "h100", "--pod", "box")
        assert (done.code, done.out, done.id) == (2, "", "flags-conflict")


@pytest.mark.parametrize("words", [["plan", CATALOG_MODEL], ["models"]])
def test_unknown_machine_is_rejected_as_text_and_as_json(pi: Pi, words: list[str]) -> None:
    done = pi(*words, "--on", "RTX 4900")
    assert (done.code, done.out, done.id) == (2, "", "gpu-unknown")
    assert "did you mean RTX 4090" in done.err
    done = pi(*words, "--on", "RTX 4900", "--json")
    assert (done.code, done.err) == (2, "")
    assert json.loads(done.out)["refused"]["message"] == "unknown GPU 'RTX 4900'"


def test_model_that_vllm_dropped_is_planned_with_an_older_one(pi: Pi) -> None:
    output = pi.ok("plan", "pfnet/plamo-2-translate", "--on", "h100")
    assert "because   planned for vLLM 0.26.0\n" in output


def test_unknown_model_says_what_is_missing(pi: Pi) -> None:
    made = planned(pi, "org/unknown", "--on", "h100")
    assert made["estimated"] is True
    assert any("config.json" in warning and "pi plan ./FOLDER --on" in warning for warning in made["warnings"])
    assert not any("config.json" in warning for warning in planned(pi, CATALOG_MODEL, "--on", "h100")["warnings"])


@pytest.mark.parametrize("written", ["./mine", "{home}/mine", "~/mine", "./mine/../mine/"])
def test_model_in_a_folder_of_this_machine_is_planned(pi: Pi, folder: Path, written: str) -> None:
    made = planned(pi, written.format(home=pi.home), "--on", "RTX 4090")
    assert made["model"] == str(folder)
    assert (made["download_gb"], made["estimated"], made["memory"]["weights_gib"]) == (16.0, False, 14.9)
    assert made["warnings"] == []
    done = pi("plan", "./mine", "--on", "L4", "--context", "1m")
    assert (done.code, done.id) == (2, "context-too-long")


def test_folder_without_a_config_is_rejected(pi: Pi) -> None:
    for path in ("./nowhere", "/etc"):
        done = pi("plan", path, "--on", "h100")
        assert (done.code, done.out, done.id) == (2, "", "no-local-model")


@pytest.mark.long
def test_models_of_a_machine(pi: Pi) -> None:
    output = pi.ok("models", "qwen3-8b", "--on", "1x H100 80GB")
    assert output.startswith("fits now:\n") and "PER HOUR" not in output
    assert 'pi plan MODEL --on "1x H100 80GB"' in output.splitlines()[-1]
    offers = json.loads(pi.ok("models", "--on", "1x H100 80GB", "--json"))
    assert {offer["state"] for offer in offers} == {"fits", "more"}
    for offer in [offer for offer in offers if offer["state"] == "fits"][::10]:
        made = planned(pi, offer["model"], "--on", "1x H100 80GB")
        assert (made["checkpoint"], made["context"]) == (offer["serves"], offer["context"])


def test_prices_are_shown(pi: Pi) -> None:
    keep_prices(pi, '"RTX 4090" = 0.44\nh100 = 2.49\n')
    assert line(pi.ok("plan", CATALOG_MODEL, "--on", "2x 4090"), "price") == "0.88 per hour for 2x RTX 4090"
    assert "x H100 80GB (" in pi("plan", "Qwen/Qwen3-Coder-480B-A35B-Instruct", "--on", "1x H100").err
    output = pi.ok("models", "qwen3-8b", "--on", "1x H100")
    assert "PER HOUR" in output and "planned for 1x H100 80GB (2.49 per hour), idle" in output
    [offer] = json.loads(pi.ok("models", "qwen3-8b", "--on", "1x H100", "--json"))
    assert offer["price_per_hour"] == 2.49
    assert "4x H100 80GB (9.96 per hour)" in pi.ok("models", "Qwen3-Coder-480B")


@pytest.mark.parametrize(
    ("text", "error_id", "told"),
    [
        ("RTX 4090 = 0.44", "prices-invalid", '"RTX 4090" = 0.44'),
        ('"RTX 4900" = 0.44', "price-of-unknown-gpu", "'RTX 4900'; did you mean RTX 4090"),
        ('"RTX 4090" = -1', "price-invalid", "RTX 4090: invalid price -1"),
        ('"RTX 4090" = inf', "price-invalid", "RTX 4090: invalid price inf"),
    ],
)
def test_wrong_prices_are_one_line(pi: Pi, text: str, error_id: str, told: str) -> None:
    keep_prices(pi, text)
    for words in (["models"], ["models", "--on", "h100"], ["plan", CATALOG_MODEL, "--on", "h100"]):
        done = pi(*words)
        assert (done.code, done.out, done.id) == (2, "", error_id)
        assert done.err.startswith(f"pi: {pi.config}/prices.toml: ") and told in done.err
        assert done.err.count("\n") == 1
    (pi.config / "prices.toml").unlink()
    (pi.config / "prices.toml").mkdir()
    assert pi("models").id == "prices-unreadable"
