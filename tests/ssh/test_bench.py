"""`pi bench`: the command that runs on the pod, its table, saved results and their comparison."""

from __future__ import annotations

import json

from tests.rig.command import KEY
from tests.ssh.conftest import Serving


def test_levels_are_measured_saved_and_compared(serving: Serving) -> None:
    pi, box = serving.pi, serving.box
    done = pi("bench", "qwen", "--concurrency", "1,4", "--input", "512", "--output", "64", "--save")
    assert done.code == 0, done
    lines = done.out.splitlines()
    assert lines[0].split()[:3] == ["AT", "ONCE", "REQ/S"]
    assert lines[1].split()[:9] == ["1", "0.50", "100", "500", "10.5", "/", "21.0", "/", "31.5"]
    assert lines[2].split()[:4] == ["4", "2.00", "400", "2,000"]
    received = box.received("bench")
    words = " ".join(received["argv"])
    port = pi.models("box")["qwen"]["port"]
    assert f"--port {port} --model {serving.model} --tokenizer {serving.model} --served-model-name qwen" in words
    assert "--random-input-len 512 --random-output-len 64 --num-prompts 16 --max-concurrency 4 --seed 4" in words
    assert KEY not in words and received["env"]["OPENAI_API_KEY"] == KEY and "PI_API_KEY" not in received["env"]
    assert not list((box.home / ".pi").glob("bench-*"))
    [saved] = (pi.config / "bench").iterdir()
    assert saved.stat().st_mode & 0o777 == 0o600
    document = json.loads(saved.read_text())
    document["levels"][1]["found"]["output_tokens_per_s"] = 600.0
    (saved.parent / "later.json").write_text(json.dumps(document))
    table = pi.ok("bench", "--compare", saved.stem, "later")
    assert "400 -> 600 (+50 %)" in table and "100 -> 100 (+0 %)" in table


def test_a_benchmark_that_fails_says_why(serving: Serving) -> None:
    pi, box = serving.pi, serving.box
    box.fault("vllm", bench="ValueError: no tokenizer in this model")
    failed = pi("bench", "qwen", "--concurrency", "1")
    assert (failed.code, failed.id) == (1, "bench-failed")
    assert "vllm bench serve failed: ValueError: no tokenizer in this model" in failed.err
    assert pi("bench", "nobody", "--concurrency", "1").id == "not-running"
    assert pi("bench", "qwen", "--concurrency", "1,x").id == "concurrency-invalid"
    assert pi("bench", "qwen", "--input", "0").id == "tokens-invalid"
    assert pi("bench").id == "name-missing"
    assert pi("bench", "--compare", "a").id == "bench-compare-two"
    assert pi("bench", "--compare", "a", "b").id == "bench-file-unreadable"
    (pi.config / "bench").mkdir(exist_ok=True)
    (pi.config / "bench" / "bad.json").write_text('{"levels": [{}]}')
    assert pi("bench", "--compare", "bad", "bad").id == "bench-file-invalid"
