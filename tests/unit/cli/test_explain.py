"""`pi explain` of files and of stdin, which needs no pod."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from invoke import Context, Exit

from pi.cli.program import program
from pi.fabric_tasks.explain import explain_log
from tests.rig.cases import CASES
from tests.unit.vllm.test_log import read

FOLDER = CASES / "failures"


@pytest.fixture(autouse=True)
def _no_pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path / "none"))


def log_of(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "vllm.log"
    path.write_text(read(name).log, "utf-8")
    return path


def explained(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    program().run(["pi", "explain", *words], exit=False)
    return capsys.readouterr().out


def test_a_file_gives_cause_line_and_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = log_of(tmp_path, "public_mamba_blocks")
    cause, line, hint, own = explained(capsys, str(path)).splitlines()
    assert cause == read("public_mamba_blocks").cause
    number = int(line.split()[1])
    assert "exceeds available Mamba cache blocks" in path.read_text().splitlines()[number - 1]
    assert hint.strip() == read("public_mamba_blocks").hint
    assert "without pi: " in own and "--max-num-seqs 856, --gpu-memory-utilization 0.95" in own


def test_json_has_cause_hint_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = read("public_watchdog")
    found = json.loads(explained(capsys, str(log_of(tmp_path, "public_watchdog")), "--json"))
    assert list(found) == ["cause", "hint", "line"]
    assert found["cause"] == case.cause.removesuffix("\n") and found["hint"] == case.hint
    assert "illegal memory access" in case.log.splitlines()[found["line"] - 1]


def test_stdin_and_the_exit_code_count(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    log = b"(APIServer pid=1) INFO 09-14 10:20:02 [a.py:1] loading\r\n"
    for code, cause in (("-9", "killed from outside"), ("139", "stopped by SIGSEGV"), ("1", "vLLM gave no reason")):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(log)))
        assert explained(capsys, "-", "--exit-code", code).startswith(cause)


def test_a_log_of_pis_own_vllm_gets_no_other_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = log_of(tmp_path, "public_mamba_blocks")
    path.write_text(path.read_text().replace("'port': 8001", "'middleware': ['pi_guard.Guard'], 'port': 8001"))
    assert "without pi" not in explained(capsys, str(path))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01" * 1000, b"\x1b]0;x\x07ValueError: \x1b[2Jno\n"])
def test_any_file_gives_a_plain_cause(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    path = tmp_path / "odd.log"
    path.write_bytes(content)
    told = explained(capsys, str(path))
    assert told.strip() and "\x1b" not in told


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"log": "none/there.log"}, "cannot read none/there.log: No such file or directory; check the path"),
        ({"log": "-", "exit_code": "x"}, "invalid --exit-code 'x'; use a number such as 1, 137 or -9"),
        ({"log": "qwen"}, "no file qwen; give the path of a log, or - for stdin"),
    ],
)
def test_wrong_calls_are_one_line(given: dict[str, str], problem: str) -> None:
    with pytest.raises(Exit, match=problem) as raised:
        explain_log(Context(), **{"exit_code": None, "json": False, "pod": None, **given})
    assert raised.value.code == 2
