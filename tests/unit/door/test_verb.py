"""`pi door` without its extra, and with words that it does not know."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pi.cli.program import program


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        program().run(["pi", *words])
    assert ended.value.code == 2
    return capsys.readouterr().err


WITHOUT_UVICORN = """
import sys
sys.modules["uvicorn"] = None
from pi.cli.program import program
program().run(["pi", "door"])
"""


def test_without_the_extra_pi_says_what_to_install(tmp_path: Path) -> None:
    environment = {**os.environ, "PI_CONFIG_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_UVICORN], env=environment, capture_output=True, text=True, check=False
    )
    expected = "pi: the door needs uvicorn; install pi's extra for it, in the checkout: uv tool install '.[door]', or: pip install '.[door]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


@pytest.mark.parametrize(
    ("words", "id"),
    [
        (["--port", "0"], "port-invalid"),
        (["--port", "²"], "port-invalid"),
        (["--ttl", "0m"], "ttl-invalid"),
        (["--ttl", "1.5h"], "ttl-invalid"),
        (["--ttl", "-3"], "ttl-invalid"),
        (["opne"], "unknown-verb"),
    ],
)
def test_words_that_do_not_fit_are_refused(
    words: list[str], id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("PI_DEBUG", "1")
    assert f"[{id}]" in refused(capsys, "door", *words)
