"""Where a start keeps what vLLM compiles, and when it is shared with other pods."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pi.on_pod import cache, compiled, own_folder, records, storage
from pi.on_pod.shapes import Compiling
from pi.on_pod.wire import PodError
from tests.rig.skips import skip
from tests.unit.on_pod.conftest import Wire

WANTED: Compiling = {"card": "NVIDIA H100 PCIe, 80 GiB", "digest": "0123456789abcdef"}


@pytest.fixture
def venv(home: Path) -> str:
    """A venv with the metadata of vLLM and PyTorch."""
    packages = home / "venv/lib/python3.12/site-packages"
    for name in ("vllm-0.33.0", "torch-2.14.0", "torch_c_dlpack_ext-0.1.0"):
        (packages / f"{name}.dist-info").mkdir(parents=True)
    return str(home / "venv")


@pytest.fixture
def mount(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Storage that a setup chose for the models; the folders above it belong to this account alone."""
    folder = home / "mount"
    folder.mkdir()
    (home / ".pi/models").symlink_to(folder)
    monkeypatch.setattr(storage, "CHOSEN", str(home / ".pi/models"))
    return folder


def shared(mount: Path) -> Path:
    return mount / f"pi-compiled-{os.geteuid()}"


def test_without_a_folder_for_models_compiled_code_is_in_the_home(venv: str, home: Path) -> None:
    place = compiled.prepare(venv, WANTED)
    assert place.problem is None and Path(place.folder) == home / ".pi/compiled" / place.name / "code"
    assert place.name.startswith("vllm-0.33.0-torch-2.14.0-h100-pcie-80-gib-")
    assert Path(place.variables["VLLM_CACHE_ROOT"]) == home / ".pi/compiled" / place.name / "starts/0123456789abcdef"
    assert {Path(path).parent for key, path in place.variables.items() if "CACHE_DIR" in key} == {Path(place.folder)}


def test_beside_the_models_compiled_code_is_shared_but_facts_of_the_machine_are_not(venv: str, mount: Path) -> None:
    place = compiled.prepare(venv, WANTED)
    own = Path(place.variables["VLLM_CACHE_ROOT"])
    assert place.problem is None and Path(place.folder) == shared(mount) / place.name
    (own / "torch_compile_cache/graph").write_text("code")
    (own / "startup_plan").mkdir()
    (own / "gpu_p2p_access_cache_for_0,1.json").write_text("{}")
    assert [path.name for path in shared(mount).rglob("*") if path.is_file()] == ["graph"]
    assert shared(mount).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda mount: mount.chmod(0o777), "mount can be written by other users"),
        (lambda mount: os.makedirs(shared(mount), 0o755), "other users may use "),
        (lambda mount: shared(mount).symlink_to(mount), "is not a folder"),
        (lambda mount: shared(mount).write_text(""), "is not a folder"),
        (lambda mount: mount.rmdir(), "no such file or directory"),
    ],
    ids=["others write above", "others read it", "a link", "a file", "the storage is gone"],
)
def test_a_folder_that_others_can_change_gives_no_code(
    change: Callable[[Path], object], reason: str, venv: str, mount: Path, home: Path
) -> None:
    change(mount)
    place = compiled.prepare(venv, WANTED)
    assert reason in str(place.problem) and Path(place.folder) == home / ".pi/compiled" / place.name / "code"


def test_a_folder_of_another_user_gives_no_code(venv: str, mount: Path) -> None:
    if os.geteuid():
        skip("users")
    shared(mount).mkdir(0o700)
    os.chown(shared(mount), 4242, -1)
    assert "belongs to another user (uid 4242)" in str(compiled.prepare(venv, WANTED).problem)
    os.chown(mount, 4242, -1)
    assert str(compiled.prepare(venv, WANTED).problem) == f"{mount} belongs to another user (uid 4242)"


def test_a_sticky_folder_may_be_written_by_others(venv: str, mount: Path) -> None:
    mount.chmod(0o1777)
    assert compiled.prepare(venv, WANTED).problem is None


def test_a_file_system_that_hides_owners_gives_no_code(venv: str, mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_folder, "_kind", lambda folder: "fuse.rclone")
    monkeypatch.setattr(own_folder, "_keeps_owner", lambda descriptor: False)
    assert str(compiled.prepare(venv, WANTED).problem).endswith("may not show the real owners of files")


def test_the_type_of_a_file_system_is_that_of_the_nearest_mount() -> None:
    assert own_folder._kind("/proc/self") == "proc" and own_folder._kind("/dev/shm") == "tmpfs"


@pytest.mark.parametrize("card", ["NVIDIA H200, 141 GiB", "CPU"])
def test_another_kind_of_gpu_has_its_own_folder(card: str, venv: str) -> None:
    other: Compiling = {"card": card, "digest": WANTED["digest"]}
    assert compiled.prepare(venv, WANTED).folder != compiled.prepare(venv, other).folder


def test_another_vllm_torch_cpu_or_venv_has_its_own_folder(
    venv: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {compiled.name_of(venv, "CPU")}
    packages = home / "venv/lib/python3.12/site-packages"
    (packages / "torch-2.14.0.dist-info").rename(packages / "torch-2.15.0.dist-info")
    names.add(compiled.name_of(venv, "CPU"))
    (packages / "vllm-0.33.0.dist-info").rename(packages / "vllm-0.33.1.dist-info")
    names.add(compiled.name_of(venv, "CPU"))
    (home / "venv").rename(home / "venv-0.33.1")
    names.add(compiled.name_of(f"{venv}-0.33.1", "CPU"))
    monkeypatch.setattr(compiled, "_machine", lambda: ["x86_64", "sse2", "glibc 2.36"])
    names.add(compiled.name_of(f"{venv}-0.33.1", "CPU"))
    assert len(names) == 5


def test_only_on_a_cpu_vllm_keeps_no_graph_that_it_cannot_load(venv: str) -> None:
    on_cpu: Compiling = {"card": "CPU", "digest": WANTED["digest"]}
    assert compiled.prepare(venv, on_cpu).variables["VLLM_USE_AOT_COMPILE"] == "0"
    assert "VLLM_USE_AOT_COMPILE" not in compiled.prepare(venv, WANTED).variables


def test_a_variable_of_the_pod_wins(venv: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "/own")
    assert "TRITON_CACHE_DIR" not in compiled.prepare(venv, WANTED).variables


def test_the_size_of_the_kv_cache_is_kept_from_the_second_start_on(venv: str, home: Path) -> None:
    """The first start compiles and measures less room. vLLM's own key for the size lacks the share of the memory."""
    worker = home / "venv/lib/python3.12/site-packages/vllm/v1/worker"
    worker.mkdir(parents=True)
    (worker / "startup_plan.py").touch()
    place = compiled.prepare(venv, WANTED)
    assert "VLLM_ENABLE_STARTUP_PLAN" not in place.variables
    compiled.note_ready(place)
    assert compiled.prepare(venv, WANTED).variables["VLLM_ENABLE_STARTUP_PLAN"] == "1"
    half: Compiling = {"card": WANTED["card"], "digest": "fedcba9876543210"}
    assert "VLLM_ENABLE_STARTUP_PLAN" not in compiled.prepare(venv, half).variables
    (worker / "startup_plan.py").unlink()  # an older vLLM
    assert "VLLM_ENABLE_STARTUP_PLAN" not in compiled.prepare(venv, WANTED).variables


def test_a_size_with_which_vllm_failed_is_dropped_once(venv: str) -> None:
    place = compiled.prepare(venv, WANTED)
    plan = Path(place.own) / "startup_plan"
    plan.mkdir()
    assert not compiled.has_dropped_plan(place, "CUDA out of memory") and plan.exists()
    log = "INFO 11-30 09:50:26 [startup_plan.py:152] Applying persisted startup plan (fingerprint ab): 1"
    assert compiled.has_dropped_plan(place, log) and not plan.exists()


def test_compiled_code_is_listed_and_deleted_unless_a_model_uses_it(
    venv: str, mount: Path, call: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = compiled.prepare(venv, WANTED)
    (Path(place.folder) / "torch_compile_cache/graph").write_bytes(bytes(5000))
    [found] = cache.listed(call, {"name": None})["compiled"]
    assert (found["code"], found["folder"], found["used_by"]) == (place.name, place.folder, [])
    assert found["size_bytes"] >= 5000 and (found["used_s_ago"] or 0) < 60
    records.write("qwen", compiled.FILE, place.name + "\n")
    monkeypatch.setattr(cache, "_living", lambda: [{"name": "qwen"}])
    with pytest.raises(PodError, match="is in use by qwen"):
        cache._remove_compiled(call, place.name, compiled.folders()[place.name])
    monkeypatch.setattr(cache, "_living", lambda: [])
    assert cache._remove_compiled(call, place.name, compiled.folders()[place.name])["model"] == place.name
    assert compiled.folders() == {} and not Path(place.folder).exists()
