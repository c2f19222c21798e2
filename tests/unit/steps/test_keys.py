"""Where the key of the models comes from, and what pi says if it cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from pi import redaction
from pi.errors import InputError
from pi.steps import keys

KEY = "sk-0123456789abcdef"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    monkeypatch.delenv("PI_API_KEY", raising=False)
    keys._from_command.cache_clear()
    return tmp_path


def rejected(variable: str | None, monkeypatch: pytest.MonkeyPatch) -> InputError:
    if variable is not None:
        monkeypatch.setenv("PI_API_KEY", variable)
    with pytest.raises(InputError) as error:
        keys.api_key()
    return error.value


def test_a_command_prints_the_key_once_without_a_shell(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = folder / "my key"
    script.write_text(f'#!/bin/sh\necho run >>"{folder}/runs"\n[ "$1" = \'$(id)\' ] && echo {KEY}\n')
    script.chmod(0o700)
    monkeypatch.setenv("PI_API_KEY", f"!'{script}' '$(id)'")
    assert [keys.api_key(), keys.api_key()] == [KEY, KEY]
    assert (folder / "runs").read_text() == "run\n"
    assert redaction.redacted(f"a {KEY} b") == "a *** b"
    assert keys.reference() == "$(pi key show)"


COMMANDS = [
    ("no command", "!", "api-key-command-invalid"),
    ("an open quote", "!echo '", "api-key-command-invalid"),
    ("a missing program", "!no-such-program-here", "api-key-command-failed"),
    ("a failing program", "!false", "api-key-command-failed"),
    ("no output", "!true", "api-key-too-short"),
    ("two lines", f"!printf '{KEY}\\n{KEY}\\n'", "api-key-invalid"),
    ("a short key", "!echo hunter2", "api-key-too-short"),
    ("a command that waits", "!sleep 60", "api-key-command-late"),
]


@pytest.mark.parametrize(("variable", "id"), [case[1:] for case in COMMANDS], ids=[case[0] for case in COMMANDS])
def test_a_command_that_prints_no_key_is_named(variable: str, id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "COMMAND_S", 2)
    error = rejected(variable, monkeypatch)
    assert error.id == id
    assert "hunter2" not in error.render() and KEY not in error.render()


def test_a_private_file_has_the_key_if_the_variable_is_not_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rejected(None, monkeypatch).id == "api-key-missing"
    keys.save(KEY)
    assert keys.api_key() == KEY
    assert keys.reference() == "$(pi key show)"
    with pytest.raises(InputError) as error:
        keys.save(KEY)
    assert error.value.id == "key-file-unwritable"
    (folder / "key").chmod(0o644)
    assert rejected(None, monkeypatch).id == "key-file-open"
    monkeypatch.setenv("PI_API_KEY", "sk-fedcba9876543210")
    assert keys.api_key() == "sk-fedcba9876543210"
    assert keys.reference() == "$PI_API_KEY"


def test_both_missing_variables_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(InputError, match="HF_TOKEN and PI_API_KEY are not set"):
        keys.for_setup(False)
    monkeypatch.setenv("HF_TOKEN", "none")
    with pytest.raises(InputError, match=r"^PI_API_KEY is not set"):
        keys.for_setup(False)
    keys.save(KEY)
    assert keys.for_setup(False) == ("none", KEY)


@pytest.mark.parametrize("token", ["", "  ", None])
def test_a_setup_without_a_token_says_so_in_one_line(
    token: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    assert keys.for_setup(True)[0] is None
    keys.save(KEY)
    assert keys.for_setup(False) == (None, KEY)
    first, second = capsys.readouterr().err.splitlines()
    assert first == second and "HF_TOKEN is not set" in first
