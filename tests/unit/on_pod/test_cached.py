"""The hub's cache on a pod: sizes, users, and what may be deleted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pi.on_pod import cache, cached, download, process, records
from pi.on_pod.wire import PodError
from tests.unit.on_pod.conftest import Wire

MODEL = "ann/model"


def blob(home: Path, name: str, size: int = 1000, model: str = MODEL) -> Path:
    folder = home / ".cache/huggingface/hub" / f"models--{model.replace('/', '--')}" / "blobs"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(bytes(size))
    return path


def runs(home: Path, name: str, model: str, command: str = "") -> None:
    """Write the record of a deployment that this process starts."""
    fields = process.stat(os.getpid())
    assert fields
    folder = home / ".pi/run" / name
    folder.mkdir(parents=True, mode=0o700)
    (folder / "launch.sh").write_text(command)
    record = {"name": name, "model": model, "port": 8001, "gpus": [], "status": "starting", "instance": "0" * 16}
    owner = {"owner": os.getpid(), "owner_started": fields[2], "boot_id": process.boot_id()}
    (folder / "record.json").write_text(json.dumps({**record, **owner}))
    assert records.load(name)


def test_the_list_names_sizes_unfinished_files_and_users_the_largest_first(home: Path, call: Wire) -> None:
    blob(home, "a" * 64)
    blob(home, f"{'b' * 64}.0123abcd.incomplete", 500)
    os.utime(blob(home, "c", 7000, "big"), (time.time() - 86400, time.time() - 90000))
    (home / ".cache/huggingface/hub/datasets--ann--data").mkdir()
    runs(home, "qwen", MODEL)
    runs(home, "other", "/models/x", 'vllm serve /models/x --speculative-config \'{"model": "big"}\'')
    runs(home, "third", "/models/y", "vllm serve /models/y --model big-one ann/model-2")
    answer = cache.listed(call, {"name": None})
    big, small = answer["models"]
    assert (big["model"], big["size_bytes"], big["used_by"]) == ("big", 7000, ["other"])
    assert big["used_s_ago"] == pytest.approx(86400, abs=60)
    assert (small["model"], small["size_bytes"], small["unfinished_bytes"]) == (MODEL, 1500, 500)
    assert small["used_by"] == ["qwen"]
    assert answer["free_bytes"] > 0


def test_a_model_in_use_stays_and_another_goes_whole(home: Path, call: Wire) -> None:
    kept, gone = blob(home, "a"), blob(home, "b", model="ann/old")
    runs(home, "qwen", MODEL)
    with pytest.raises(PodError, match="ann/model is in use by qwen"):
        cache.remove(call, {"name": MODEL})
    with pytest.raises(PodError, match="ann/none is not in the pod's cache"):
        cache.remove(call, {"name": "ann/none"})
    with pytest.raises(PodError, match="is not in the pod's cache"):
        cache.remove(call, {"name": "../../x"})
    assert cache.remove(call, {"name": "ann/old"})["size_bytes"] == 1000
    assert kept.exists() and not gone.parent.parent.exists()


def test_files_of_storage_without_links_count(home: Path, call: Wire) -> None:
    blob(home, "a", 10)
    repo = Path(cached.folder_of(MODEL))
    (repo / "snapshots" / "c0ffee" / "sub").mkdir(parents=True)
    (repo / "snapshots" / "c0ffee" / "sub" / "model.safetensors").write_bytes(bytes(500))
    (repo / "snapshots" / "c0ffee" / "linked").symlink_to(repo / "blobs" / "a")
    (repo / "snapshots" / "c0ffee" / "broken").symlink_to("nowhere")
    (repo / "snapshots" / "circle").symlink_to(repo)
    [found] = cache.listed(call, {"name": None})["models"]
    assert found["size_bytes"] == 510


def test_a_cache_behind_a_link_to_nothing_is_out_of_reach(home: Path, call: Wire) -> None:
    (home / ".cache").mkdir()
    (home / ".cache" / "huggingface").symlink_to(home / "unmounted")
    with pytest.raises(PodError, match=r"\.cache/huggingface is a link to .*/unmounted, which does not exist"):
        cache.listed(call, {"name": None})
    (home / "unmounted").mkdir()
    assert cache.listed(call, {"name": None})["models"] == []


def test_a_model_that_a_program_of_somebody_serves_stays(home: Path, call: Wire) -> None:
    blob(home, "a")
    words = [sys.executable, "-c", "print(flush=True); input()", f"--model={MODEL}"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout and program.stdout.readline()
        with pytest.raises(PodError, match=rf"ann/model is in use by pid {program.pid} \(python"):
            cache.remove(call, {"name": MODEL})
        program.communicate(b"\n")
    cache.remove(call, {"name": MODEL})


def test_what_cannot_be_deleted_is_said(home: Path, call: Wire, tmp_path: Path) -> None:
    blob(home, "a")
    repo, elsewhere = Path(cached.folder_of(MODEL)), tmp_path / "elsewhere"
    (repo / "snapshots").touch()
    with pytest.raises(PodError, match=r"cannot delete ann/model: .*snapshots: Not a directory"):
        cache.remove(call, {"name": MODEL})
    repo.rename(elsewhere)
    repo.symlink_to(elsewhere)
    with pytest.raises(PodError, match=f"ann/model is a link to {elsewhere}"):
        cache.remove(call, {"name": MODEL})
    assert (elsewhere / "blobs" / "a").exists()


def test_a_model_that_somebody_fetches_stays(home: Path, call: Wire, tmp_path: Path) -> None:
    kept, program = blob(home, "a"), tmp_path / "hf"
    program.write_text("import sys; print(flush=True); sys.stdin.read()")
    words = [sys.executable, str(program), "download", MODEL]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as fetcher:
        assert fetcher.stdout and fetcher.stdout.readline()
        assert cached.fetchers(MODEL) == [fetcher.pid]
        assert cached.fetchers("ann/mod") == []
        with pytest.raises(PodError, match=rf"ann/model is being fetched by pid {fetcher.pid}"):
            cache.remove(call, {"name": MODEL})
        fetcher.communicate()
    assert kept.exists()
    assert cached.fetchers(MODEL) == []


def test_unfinished_files_with_random_names_go_and_those_to_continue_stay(home: Path) -> None:
    blob(home, f"{'a' * 64}.0123abcd.incomplete")
    kept = {blob(home, f"{'b' * 64}.incomplete").name, blob(home, "c" * 64).name}
    repo = cached.folder_of(MODEL)
    cached.remove_useless(repo)
    assert {entry.name for entry in cached.blobs(repo)} == kept
    cached.remove_unfinished(repo)
    assert {entry.name for entry in cached.blobs(repo)} == {"c" * 64}


def test_a_download_stands_still_if_neither_size_nor_time_of_its_files_change() -> None:
    now = [0.0]
    stall = download.Stall(lambda: now[0])
    assert not stall.has_lasted((5, 1))
    now[0] = download.STALL_S - 1
    assert not stall.has_lasted((5, 2))
    now[0] += download.STALL_S - 1
    assert not stall.has_lasted((5, 2))
    now[0] += 1
    assert stall.has_lasted((5, 2))
