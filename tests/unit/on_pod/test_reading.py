"""Files that others made in a model's folder: each that cannot be read is one line, and nothing waits for it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pi.calls.events import Failed
from pi.calls.failures import error_of
from pi.on_pod import hub, reading, storage, survey
from pi.on_pod.shapes import SurveyRequest
from pi.on_pod.wire import PodError

CONFIG = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2}


def giant(path: Path) -> None:
    with path.open("w") as file:
        file.truncate(2**32)


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a FIFO": (os.mkfifo, "it is a FIFO, not a file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a file"),
    "a sparse giant": (giant, "it has more than 16 MiB"),
    "deep lists": (lambda path: path.write_text("[" * 10**5), "its JSON is nested too deeply"),
    "deep objects": (lambda path: path.write_text('{"a":' * 60 + "1" + "}" * 60), "its JSON is nested too deeply"),
}

PLACES = ["config.json", "model.safetensors.index.json", "tokenizer_config.json"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    return tmp_path


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_of_a_model_is_one_line(folder: Path, place: str, kind: str) -> None:
    make, problem = HOSTILE[kind]
    (folder / place).unlink(missing_ok=True)
    make(folder / place)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PodError) as raised:
        survey.model_facts(str(folder))
    error = error_of(Failed(raised.value.kind, str(raised.value), raised.value.detail))
    assert error.message == f"cannot read {folder / place}: {problem}"
    assert error.hint and "\n" not in error.message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16  # KiB


def test_weights_that_are_no_files_are_one_line(folder: Path) -> None:
    os.mkfifo(folder / "a.safetensors")
    with pytest.raises(PodError, match=r"a\.safetensors: it is a FIFO, not a file"):
        survey.model_facts(str(folder))


def test_links_to_nowhere_and_in_a_circle_are_no_files(folder: Path) -> None:
    (folder / "a.safetensors").symlink_to("b.safetensors")
    (folder / "b.safetensors").symlink_to("a.safetensors")
    (folder / "c.safetensors").symlink_to("nowhere")
    found = survey.model_facts(str(folder))
    assert (found["config"], found["weights_bytes"]) == (CONFIG, 1000)


@pytest.mark.parametrize("text", ["", "{", "\x00", "9" * 10**6, '"x"', "1", "[]"])
def test_a_config_that_is_no_object_is_none(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    assert survey.model_facts(str(folder))["config"] is None


def test_a_ref_that_is_no_commit_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "models--a--b" / "refs"
    refs.mkdir(parents=True)
    (tmp_path / "models--a--b" / "snapshots").mkdir()
    os.mkfifo(refs / "main")
    assert survey.model_facts("a/b") == {"where": "missing"}
    (refs / "main").unlink()
    (refs / "main").write_text("../../..")
    assert survey.model_facts("a/b") == {"where": "missing"}


def test_storage_that_does_not_answer_ends_a_survey(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request: SurveyRequest = {"model": "a/b", "ask_hub": False, "checkpoints": [], "gpu_query": "", "adapters": []}
    monkeypatch.setenv("PI_TEST_PACE", "0.01")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: time.sleep(5))
    monkeypatch.setattr(storage, "check", lambda path=None: None)
    with pytest.raises(PodError, match="models cannot be read: no answer within 40 s") as raised:
        survey.survey(request)
    assert raised.value.kind == "storage"


def test_a_directory_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(reading.ReadError) as raised:
        reading.data(str(tmp_path))
    assert not raised.value.is_missing
    with pytest.raises(reading.ReadError) as raised:
        reading.data(str(tmp_path / "x"))
    assert raised.value.is_missing


@pytest.mark.parametrize("text", [b"[" * 10**5, b"9" * 10**6, b"", b"\xff", b'{"a":' * 60 + b"1" + b"}" * 60])
def test_json_that_the_hub_sends_is_held_against_the_same_limits(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_fetch", lambda path: text)
    assert hub.json_file("a/b", "config.json") is None
    assert hub.describe("a/b") == {"where": "missing"}


def test_a_relative_cache_has_an_existing_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.existing("no/such/cache") == str(tmp_path)
