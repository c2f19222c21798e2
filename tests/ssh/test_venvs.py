"""Extra venvs: the offer if a model needs one, and models that run from it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.rig.command import Pi
from tests.rig.pod import Pod, is_alive
from tests.rig.skips import skip_if
from tests.ssh.test_list import row

MODEL = "Acme/Tiny-1B"
OWN = """
[model."Acme/Tiny-1B"]
parameters = 0.1
floor = "{floor}"
variants.bf16 = {{ precision = "bf16" }}
"""


def needs(pi: Pi, floor: str) -> None:
    """Set the model's minimum vLLM in the user's catalog."""
    pi.config.mkdir(exist_ok=True)
    (pi.config / "models.toml").write_text(OWN.format(floor=floor))


@pytest.fixture(autouse=True)
def own_entry(pi: Pi) -> None:
    needs(pi, "0.33.0")


def program_of(box: Pod, name: str) -> str:
    """Return the command line of the server with this name."""
    return box.processes()[box.received(name)["pid"]]


@pytest.mark.core
def test_start_rejects_a_vllm_that_is_too_old(pi: Pi, box: Pod) -> None:
    pi.ok("list")  # tells of the host key, which is new
    done = pi("start", MODEL, "--name", "tiny")
    assert (done.code, done.id) == (2, "vllm-too-old")
    assert "Acme/Tiny-1B needs vLLM 0.33.0 or newer, but box has 0.32.0" in done.err
    assert "pi pods setup box --for Acme/Tiny-1B --beside; " in done.err
    assert done.err.count("\n") == 1
    assert (pi.models("box"), box.records(), box.quiet()) == ({}, [], {})
    assert not (box.home / "received").exists()


def test_start_uses_the_extra_venv_for_its_model_only(pi: Pi, box: Pod) -> None:
    box.extra_venv("venv-0.33.0", "0.33.1")
    output = pi.ok("start", MODEL, "--name", "tiny")
    assert "vLLM 0.33.1 from ~/venv-0.33.0: it needs vLLM 0.33.0 or newer, but ~/venv has 0.32.0" in output
    pi.ok("start", box.model(), "--name", "other")
    assert f"{box.home}/venv-0.33.0/bin/vllm serve" in program_of(box, "tiny")
    assert f"{box.home}/venv/bin/vllm serve" in program_of(box, "other")
    assert box.received("tiny")["env"]["PATH"].startswith(f"{box.home}/venv-0.33.0/bin:")
    assert pi.models("box")["tiny"]["venv"] == "venv-0.33.0"
    assert "venv" not in pi.models("box")["other"]
    listed = pi.ok("list")
    assert "running (vLLM 0.33.1, ~/venv-0.33.0)" in row(listed, "tiny")
    assert "vLLM" not in row(listed, "other")


def test_failed_start_names_the_venv(pi: Pi, box: Pod, tmp_path: Path) -> None:
    box.extra_venv("venv-0.33.0", "0.33.1")
    log = tmp_path / "log"
    log.write_text("ImportError: packages that were not found in your environment: timm. Run `pip install timm`\n")
    box.fault("vllm", log=str(log), exit=1)
    done = pi("start", MODEL, "--name", "tiny")
    assert done.code == 6
    assert "uv pip install -p ~/venv-0.33.0 timm" in done.err


def test_list_restores_a_missing_entry_with_its_venv(pi: Pi, box: Pod) -> None:
    box.extra_venv("venv-0.33.0", "0.33.1")
    pi.ok("start", MODEL, "--name", "tiny")
    before = pi.models("box")["tiny"]
    pi.knows(box)
    pi("list")
    assert pi.models("box")["tiny"] == before
    assert is_alive(before["pid"])


def test_unfinished_venv_is_not_used(pi: Pi, box: Pod) -> None:
    (box.extra_venv("venv-0.33.0", "0.33.1") / ".pi-checked").unlink()
    done = pi("start", MODEL, "--name", "tiny")
    assert done.id == "vllm-too-old" and "box has 0.32.0;" in done.err
    assert box.records() == []


def test_model_without_a_release_runs_from_a_nightly_build(pi: Pi, box: Pod) -> None:
    needs(pi, "nightly")
    box.extra_venv("venv-0.33.0", "0.33.1")
    planned = pi.ok("plan", MODEL)
    assert "vLLM      a nightly build of vLLM; ~/venv has 0.32.0\n" in planned
    assert "needs a nightly build of vLLM, but box has 0.32.0, 0.33.1 in ~/venv-0.33.0" in planned
    box.extra_venv("venv-nightly", "0.33.2.dev7+g1a2b3c4")
    pi.ok("start", MODEL, "--name", "tiny")
    assert f"{box.home}/venv-nightly/bin/vllm serve" in program_of(box, "tiny")


def test_plan_explains_the_venv_and_changes_nothing(pi: Pi, box: Pod) -> None:
    refused = pi.ok("plan", MODEL)
    assert "vLLM      0.33.0 or newer; ~/venv has 0.32.0" in refused
    assert "refused   Acme/Tiny-1B needs vLLM 0.33.0 or newer, but box has 0.32.0; " in refused
    box.extra_venv("venv-0.33.0", "0.33.1")
    planned = pi.ok("start", MODEL, "--name", "tiny", "--dry-run")
    assert planned.startswith("PATH=~/venv-0.33.0/bin:$PATH\n")
    assert "vLLM      0.33.0 or newer; ~/venv-0.33.0 has 0.33.1" in planned
    assert "refused" not in planned
    assert (pi.models("box"), box.records()) == ({}, [])


def test_models_counts_extra_venvs(pi: Pi, box: Pod) -> None:
    [offer] = json.loads(pi.ok("models", MODEL, "--json"))
    assert (offer["state"], offer["needs"]) == ("more", "vLLM 0.33.0 or newer; the pod has 0.32.0")
    box.extra_venv("venv-0.33.0", "0.33.1")
    [offer] = json.loads(pi.ok("models", MODEL, "--json"))
    assert offer["state"] == "fits"


BAD = [
    ("beside without a model", ["--beside"], "--beside requires --for; add --for MODEL"),
    ("a model that is not in the catalog", ["--for", "no/such", "--beside"], "'no/such' is not in the catalog"),
    ("a release for a model that has none", ["--for", MODEL, "--vllm", "release"], "no vLLM release serves Acme/Tiny-1B"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_invalid_setup_contacts_nothing(pi: Pi, words: list[str], said: str) -> None:
    needs(pi, "nightly")
    pi.write({"pods": {"box": {"ssh": "ssh -p 1 root@127.0.0.1"}}, "active": "box"})
    done = pi("pods", "setup", "box", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@skip_if(os.geteuid(), "users")
def test_a_venv_that_another_user_can_change_runs_nothing(pi: Pi, box: Pod) -> None:
    model, venv = box.model(), box.extra_venv("venv-0.33.0", "0.33.1")
    pi.ok("start", model, "--name", "qwen")
    os.chown(venv / "bin" / "vllm", 65534, -1)
    done = pi("start", model, "--name", "other")
    assert (done.code, done.id) == (1, "not-private")
    assert "~/venv-0.33.0 on the pod is not safe: bin/vllm belongs to another user (uid 65534)" in done.err
    assert "delete it there and set the pod up again" in done.err
    assert "qwen" in pi.ok("list")
    pi.ok("stop", "qwen")
