"""A vLLM beside the usual one: what is offered where a model needs it, and that the model really runs from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.rig.command import Pi
from tests.rig.pod import Pod, is_alive

MODEL = "Acme/Tiny-1B"
OWN = """
[model."Acme/Tiny-1B"]
parameters = 0.1
floor = "{floor}"
variants.bf16 = {{ precision = "bf16" }}
"""


def needs(pi: Pi, floor: str) -> None:
    """Have the user's own catalog say which vLLM the model needs."""
    pi.config.mkdir(exist_ok=True)
    (pi.config / "models.toml").write_text(OWN.format(floor=floor))


@pytest.fixture(autouse=True)
def own_entry(pi: Pi) -> None:
    needs(pi, "0.33.0")


def program_of(box: Pod, name: str) -> str:
    """The command line of the server that runs under this name."""
    return box.processes()[box.received(name)["pid"]]


@pytest.mark.core
def test_a_model_that_needs_a_newer_vllm_is_refused_before_anything_starts(pi: Pi, box: Pod) -> None:
    pi.ok("list")  # tells of the host key, which is new
    done = pi("start", MODEL, "--name", "tiny")
    assert done.code == 2
    assert "Acme/Tiny-1B needs vLLM 0.33.0 or newer, box has 0.32.0" in done.err
    assert "a venv of its own: pi pods setup box --for Acme/Tiny-1B --beside; or upgrade ~/venv: " in done.err
    assert done.err.count("\n") == 1
    assert (pi.models("box"), box.records(), box.quiet()) == ({}, [], {})
    assert not (box.home / "received").exists()


def test_it_runs_from_the_venv_beside_by_itself_and_others_do_not(pi: Pi, box: Pod) -> None:
    box.extra_venv("venv-0.33.0", "0.33.1")
    told = pi.ok("start", MODEL, "--name", "tiny")
    assert "vLLM 0.33.1 of ~/venv-0.33.0: it needs vLLM 0.33.0 or newer, ~/venv has 0.32.0" in told
    pi.ok("start", box.model(), "--name", "other")
    assert f"{box.home}/venv-0.33.0/bin/vllm serve" in program_of(box, "tiny")
    assert f"{box.home}/venv/bin/vllm serve" in program_of(box, "other")
    assert box.received("tiny")["env"]["PATH"].startswith(f"{box.home}/venv-0.33.0/bin:")
    assert pi.models("box")["tiny"]["venv"] == "venv-0.33.0"
    assert "venv" not in pi.models("box")["other"]
    lines = {line.split()[0]: line for line in pi.ok("list").splitlines()[1:]}
    assert "running (vLLM 0.33.1, ~/venv-0.33.0)" in lines["tiny"]
    assert "vLLM" not in lines["other"]


def test_a_start_that_fails_tells_where_its_vllm_is(pi: Pi, box: Pod, tmp_path: Path) -> None:
    box.extra_venv("venv-0.33.0", "0.33.1")
    log = tmp_path / "log"
    log.write_text("ImportError: packages that were not found in your environment: timm. Run `pip install timm`\n")
    box.fault("vllm", log=str(log), exit=1)
    done = pi("start", MODEL, "--name", "tiny")
    assert done.code == 6
    assert "uv pip install -p ~/venv-0.33.0 timm" in done.err


def test_a_lost_note_of_it_is_found_again(pi: Pi, box: Pod) -> None:
    box.extra_venv("venv-0.33.0", "0.33.1")
    pi.ok("start", MODEL, "--name", "tiny")
    before = pi.models("box")["tiny"]
    pi.knows(box)
    pi("list")
    assert pi.models("box")["tiny"] == before
    assert is_alive(before["pid"])


def test_a_venv_that_no_setup_has_finished_is_not_used(pi: Pi, box: Pod) -> None:
    (box.extra_venv("venv-0.33.0", "0.33.1") / ".pi-checked").unlink()
    assert "needs vLLM 0.33.0 or newer, box has 0.32.0;" in pi("start", MODEL, "--name", "tiny").err
    assert box.records() == []


def test_a_model_for_which_no_release_will_do_runs_from_a_nightly_build(pi: Pi, box: Pod) -> None:
    needs(pi, "nightly")
    box.extra_venv("venv-0.33.0", "0.33.1")
    planned = pi.ok("plan", MODEL)
    assert "vLLM      a nightly build of vLLM; ~/venv has 0.32.0\n" in planned
    assert "needs a nightly build of vLLM, box has 0.32.0, 0.33.1 in ~/venv-0.33.0" in planned
    box.extra_venv("venv-nightly", "0.33.2.dev7+g1a2b3c4")
    pi.ok("start", MODEL, "--name", "tiny")
    assert f"{box.home}/venv-nightly/bin/vllm serve" in program_of(box, "tiny")


def test_a_plan_says_which_venv_and_why_and_touches_nothing(pi: Pi, box: Pod) -> None:
    refused = pi.ok("plan", MODEL)
    assert "vLLM      0.33.0 or newer; ~/venv has 0.32.0" in refused
    assert "refused   Acme/Tiny-1B needs vLLM 0.33.0 or newer, box has 0.32.0; leave ~/venv as it is" in refused
    box.extra_venv("venv-0.33.0", "0.33.1")
    planned = pi.ok("start", MODEL, "--name", "tiny", "--dry-run")
    assert planned.startswith("PATH=~/venv-0.33.0/bin:$PATH\n")
    assert "vLLM      0.33.0 or newer; ~/venv-0.33.0 has 0.33.1" in planned
    assert "refused" not in planned
    assert (pi.models("box"), box.records()) == ({}, [])


def test_what_fits_counts_the_venvs_beside(pi: Pi, box: Pod) -> None:
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
def test_a_setup_that_makes_no_sense_contacts_nothing(pi: Pi, words: list[str], said: str) -> None:
    needs(pi, "nightly")
    pi.write({"pods": {"box": {"ssh": "ssh -p 1 root@127.0.0.1"}}, "active": "box"})
    done = pi("pods", "setup", "box", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
