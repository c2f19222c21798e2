"""What a pod says of itself before it serves a model with others."""

from __future__ import annotations

from pathlib import Path

import pytest

from pi.on_pod import reading, records, span, storage
from pi.on_pod.shapes import Repository


def repository(folder: Path | str) -> Repository:
    return {"id": str(folder), "revision": None, "weights": True, "load_format": "auto"}


def test_a_folder_of_a_model_is_known_by_its_names_sizes_and_json(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        (folder / "config.json").write_text('{"a": 1}')
        (folder / "model.safetensors").write_bytes(bytes(10))
    assert span.weights(repository(first)) == span.weights(repository(second)) is not None
    (second / "config.json").write_text('{"a": 2}')
    other = span.weights(repository(second))
    assert other != span.weights(repository(first))
    (second / "model.safetensors").write_bytes(bytes(11))
    assert span.weights(repository(second)) not in (other, span.weights(repository(first)))
    assert span.weights(repository(tmp_path / "none")) is None


def test_versions_come_from_the_metadata_of_the_venv(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in ("vllm-0.33.0", "torch-2.14.0+cu130", "torchvision-0.29.0", "nvidia_nccl_cu13-2.29.3"):
        (packages / f"{name}.dist-info").mkdir(parents=True)
    assert span.versions(str(tmp_path)) == {
        "vllm": "vllm-0.33.0",
        "torch": "torch-2.14.0+cu130",
        "NCCL": "nvidia_nccl_cu13-2.29.3",
    }
    assert set(span.versions(str(tmp_path / "none")).values()) == {"none"}


def test_only_digests_of_vllms_variables_leave_the_pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(records, "HOME", str(tmp_path))
    for name in ("VLLM_USE_X", "VLLM_HOST_IP", "VLLM_API_KEY", "VLLM_DP_SIZE", "NCCL_DEBUG"):
        monkeypatch.setenv(name, "hello")
    (tmp_path / "env.sh").write_text("export VLLM_ATTENTION_BACKEND='FLASH'\nexport PI_API_KEY=k\nVLLM_USE_X=hello\n")
    found = {name: digest for name, digest in span.environment().items() if name in ("VLLM_USE_X", "VLLM_HOST_IP")}
    assert set(found) == {"VLLM_USE_X"} and "hello" not in found.values()
    assert "VLLM_ATTENTION_BACKEND" in span.environment() and "VLLM_API_KEY" not in span.environment()


@pytest.mark.parametrize(
    ("line", "shared"),
    [
        ("36 1 0:32 / {} rw - nfs4 server:/models rw", "server:/models hub"),
        ("36 1 0:32 / {} rw - fuse.sshfs mfs#eu rw", "mfs#eu hub"),
        ("36 1 8:1 / {} rw - ext4 /dev/sda1 rw", ""),
    ],
)
def test_network_storage_is_named(line: str, shared: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    monkeypatch.setattr(storage, "hub_cache", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(reading, "text", lambda path: line.format(tmp_path))
    assert span.shared_storage() == shared


def test_an_address_of_the_pod_has_an_interface() -> None:
    assert span.interface_of("127.0.0.1") == "lo" and span.interface_of("192.0.2.9") == ""
