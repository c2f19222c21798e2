"""The file of models that the door serves, while it changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pi import redaction
from pi.door.rules import File
from pi.errors import InputError
from pi.fabric_tasks import declaration
from pi.pods.types import Pod, State

STATE = State({"dc1": Pod("dc1", "local")}, active="dc1")

QWEN = '[pods.dc1.models.qwen]\nmodel = "org/qwen"\n'

BGE = '[pods.dc1.models.bge]\nmodel = "org/bge"\nset = ["max-num-seqs=8"]\n'


def write(path: Path, text: str) -> None:
    """Replace a file, so that its time or its inode differs."""
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    fresh.replace(path)


def test_a_file_is_read_again_when_it_changes_and_a_mistake_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "pi.toml"
    write(path, QWEN)
    file = File(path, declaration.read)
    assert file.tables(STATE) == {"dc1": {"qwen": {"model": "org/qwen"}}} and not file.problem
    write(path, QWEN + BGE)
    both = {"qwen": {"model": "org/qwen"}, "bge": {"model": "org/bge", "set": ["max-num-seqs=8"]}}
    assert file.tables(STATE) == {"dc1": both}
    for mistake, words in (("modell = 1", "unknown key modell"), ("[", "pi.toml: "), ("[pods.dc2]", "unknown pod")):
        write(path, QWEN + mistake)
        assert file.tables(STATE) == {"dc1": both} and words in file.problem
    path.unlink()
    assert file.tables(STATE) == {"dc1": both} and "there is no" in file.problem
    write(path, BGE)
    assert [*file.tables(STATE)["dc1"]] == ["bge"] and not file.problem
    with pytest.raises(InputError, match="there is no"):
        File(tmp_path / "absent.toml", declaration.read).read(STATE)


def test_options_with_a_key_in_them_never_reach_a_command_line(tmp_path: Path) -> None:
    key = f"sk-{os.urandom(12).hex()}"
    redaction.add(key)
    write(tmp_path / "pi.toml", f'[pods.dc1.models.qwen]\nmodel = "/models/{key}"\n' + BGE)
    file = File(tmp_path / "pi.toml", declaration.read)
    assert [*file.tables(STATE)["dc1"]] == ["bge"]
    assert file.problem == "options with a key in them: the door cannot start dc1/qwen"
