"""`pi pods check`, and the same questions at the beginning of a setup."""

from __future__ import annotations

import json
import os

from tests.rig.command import Pi
from tests.rig.pod import NOWHERE, Pod

P40 = "0, Tesla P40, 24576, 0, GPU-1f0c0e3a-0000-0000-0000-000000000001, 6.1, 550.90.07, [N/A]"


def test_a_machine_is_described_and_nothing_on_it_changes(pi: Pi, machine: Pod) -> None:
    machine.cards("h200_8", count=2)
    pi.environment |= {"PIP_INDEX_URL": f"{NOWHERE}/simple", "HF_ENDPOINT": NOWHERE}
    before = sorted(machine.home.rglob("*"))
    told = pi.ok("pods", "check", machine.ssh)
    assert "  GPUs     2x H200 (140GB), the driver supports CUDA up to 13.0\n" in told
    assert "  setup    downloads about 4.8 GB; it takes 12 GB of disk\n" in told
    assert "refused" in next(line for line in told.splitlines() if line.startswith("  network  "))
    assert len(next(line for line in told.splitlines() if line.startswith("  fits ")).split(", ")) == 5
    assert told.splitlines()[-1] == f"ready for: pi pods setup NAME '{machine.ssh}'"
    assert sorted(machine.home.rglob("*")) == before and not pi.state_file.exists()
    facts = json.loads(pi.ok("pods", "check", machine.ssh, "--json"))
    assert (facts["ok"], facts["device"], len(facts["gpus"]), facts["download_gb"]) == (True, "cuda", 2, 4.8)


def test_a_card_that_vllm_does_not_serve_stops_check_and_setup_before_any_download(pi: Pi, machine: Pod) -> None:
    machine.program("nvidia-smi", f'#!/bin/sh\ncase "$1" in --query-gpu*) echo "{P40}" ;; esac\n')
    (machine.bin / "uv").unlink()
    machine.program("uv", "#!/bin/sh\ntouch ~/touched\n")
    why = "vLLM does not run on 1x Tesla P40 (compute capability 6.1): it needs 7.5 or newer"
    done = pi("pods", "check", machine.ssh)
    assert done.code == 1 and f"pi: setup would stop: {why}\n" in done.err
    done = pi("pods", "setup", "box", machine.ssh)
    assert done.code == 1 and f"pi: setup failed at step 'gpus': {why}\n" in done.err
    assert not (machine.home / "touched").exists() and not (machine.home / ".pi" / "setup").exists()
    assert "setup not finished" in pi.ok("pods")


def test_a_saved_pod_is_checked_by_its_name_and_a_wrong_word_is_named(pi: Pi, box: Pod) -> None:
    told = pi.ok("pods", "check", "box", HF_ENDPOINT=NOWHERE, PIP_INDEX_URL=NOWHERE)
    assert "0.32.0 in ~/venv" in told and f"ready for: pi pods setup box '{box.ssh}'" in told
    done = pi("pods", "check", "nobody")
    assert done.code == 2 and os.linesep not in done.err.strip()
