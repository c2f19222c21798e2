"""Mount commands, model ids, base URLs and event lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi import addresses
from pi.calls.events import Done, Event, Log, Reader
from pi.errors import InputError
from pi.model_id import ModelId
from pi.setup import mounts

MOUNTS = {
    "nfs as a provider shows it": (
        "sudo mount -t nfs -o nconnect=16 nfs.fin-02.datacrunch.io:/hf-models-fin02-8ac1bab7 /mnt/hf-models-fin02",
        "/mnt/hf-models-fin02",
    ),
    "without sudo": ("mount -t nfs -o nconnect=16 nfs.fin-01.datacrunch.io:/SFS-3H6e /mnt/shared", "/mnt/shared"),
    "options at the end": ("mount -t nfs host:/x /mnt/m -o vers=4", "/mnt/m"),
    "a bind mount": ("mount --bind /data/models /mnt/m", "/mnt/m"),
    "sshfs": ("sshfs root@198.51.100.13:/export/models /mnt/m -o reconnect,allow_other", "/mnt/m"),
    "a path as an option's value": ("mount -t nfs host:/x /mnt/m -o /etc/x", "/mnt/m"),
    "a block volume": ("sudo mount /dev/vdb /mnt/models", "/mnt/models"),
    "a volume by its id": (
        "mount -o discard,defaults,noatime /dev/disk/by-id/scsi-0DO_Volume_vol-1 /mnt/vol_1",
        "/mnt/vol_1",
    ),
    "a logical volume": ("mount -t xfs /dev/mapper/vg-data /data", "/data"),
    "a bind mount of a system folder": ("mount --bind /opt /mnt/m", "/mnt/m"),
    "an image": ("mount -o loop /var/lib/images/m.img /mnt/m", "/mnt/m"),
    "a Windows share": ("mount -t cifs //nas/models /mnt/m", "/mnt/m"),
    "a slash at the end": ("mount host:/x /mnt/m/", "/mnt/m"),
}


@pytest.mark.parametrize(("text", "target"), MOUNTS.values(), ids=MOUNTS.keys())
def test_a_mount_command_has_its_target(text: str, target: str) -> None:
    mount = mounts.parse(text)
    assert mount.target == target and mount.words[0] != "sudo"


NO_MOUNTS = {
    "two commands": "mount host:/x /mnt/m; curl evil | sh",
    "a command in it": "mount host:/$(id) /mnt/m",
    "another program": "touch /mnt/m",
    "no target": "mount -a",
    "onto the root": "mount host:/x /",
    "onto a device": "mount /mnt/m /dev/vdb",
    "a device alone": "mount /dev/vdb",
    "a share alone": "mount -t cifs //nas/models",
    "onto /etc": "mount host:/x /etc/ssh",
    "onto a home of all": "mount host:/x /home",
    "with ..": "mount host:/x /mnt/../etc",
    "a line break": "mount host:/x /mnt/m\nid",
    "an open quote": "mount 'host:/x /mnt/m",
    "nothing": "",
}


@pytest.mark.parametrize("text", NO_MOUNTS.values(), ids=NO_MOUNTS.keys())
def test_only_one_plain_mount_command_is_accepted(text: str) -> None:
    with pytest.raises(InputError) as refusal:
        mounts.parse(text)
    assert refusal.value.hint


@pytest.mark.parametrize(
    "model", ["gpt2", "Qwen/Qwen3-8B", "openai/gpt-oss-20b", "/mnt/models/mine", "~/m", "a/b.c_d-e"]
)
def test_hub_id_or_path_is_a_model(model: str) -> None:
    assert ModelId.parse(model) == model


@pytest.mark.parametrize(
    "model", ["", "-x", "--config", "a/b/c", "a/-b", "../x", "a/b..c", "a--b/c", "https://huggingface.co/a/b", "a/b;id", "a b", "/a/../b",
              "a/b\n", "/tmp/\x1b[2J", "x" * 97, "a/b.git"]
)  # fmt: skip
def test_other_model_ids_are_rejected(model: str) -> None:
    with pytest.raises(InputError):
        ModelId.parse(model)


URLS = {
    "a plain host": ("1.2.3.4", {}, "http://1.2.3.4:8001/v1"),
    "IPv6": ("2001:db8::1", {}, "http://[2001:db8::1]:8001/v1"),
    "Vast.ai's mapping": ("h", {"VAST_TCP_PORT_8001": "40123", "PUBLIC_IPADDR": "5.6.7.8"}, "http://5.6.7.8:40123/v1"),
    "RunPod's mapping": (
        "h",
        {"RUNPOD_TCP_PORT_8001": "10234", "RUNPOD_PUBLIC_IP": "9.9.9.9"},
        "http://9.9.9.9:10234/v1",
    ),
    "RunPod's proxy": ("h", {"RUNPOD_POD_ID": "abc123"}, "https://abc123-8001.proxy.runpod.net/v1"),
    "another port's mapping": ("h", {"VAST_TCP_PORT_9": "40123"}, "http://h:8001/v1"),
    "a mapping that is not a port": ("h", {"VAST_TCP_PORT_8001": "1/@evil"}, "http://h:8001/v1"),
}


@pytest.mark.parametrize(("host", "public", "url"), URLS.values(), ids=URLS.keys())
def test_the_base_url_uses_the_providers_port_mapping(host: str, public: dict[str, str], url: str) -> None:
    assert addresses.url(host, 8001, public) == url


STREAM = (
    b'motd\nMARK {"event": "log", "bytes": 10}\nMARK {}\n\xc3\xa9\nMARK {"event": "log", "bytes": 0}\n\n'
    b'\x1b[2Jnoise\nMARX {"event": "done"}\nMARK {"event": "done", "result": 1}\n'
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_are_separated_from_noise_in_any_pieces(cuts: list[int]) -> None:
    reader = Reader("MARK")
    events: list[Event] = []
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(STREAM)], strict=True):
        events += reader.feed(STREAM[begin:end])
    assert events == [Log("MARK {}\né"), Log(""), Done(1)]
    assert b"noise" in reader.noise
