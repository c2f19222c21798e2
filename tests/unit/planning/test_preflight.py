"""What stands in the way of a setup, as a table: the change to a good machine, and what pi says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pi.errors import PiError
from pi.model_id import ModelId
from pi.planning import planner, preflight
from pi.planning.catalog import load
from pi.planning.preflight import Folder, MachineFacts, findings
from pi.planning.types import PodFacts, Request
from pi.pods.gpus import Gpu
from pi.vllm.arguments import Arguments

H100 = Gpu(0, "H100 80GB HBM3", 81559, compute_capability=(9, 0))
P40 = Gpu(1, "Tesla P40", 24576, compute_capability=(6, 1))
V100 = Gpu(0, "Tesla V100-SXM2-32GB", 32768, compute_capability=(7, 0))
GTX = Gpu(0, "GeForce GTX 1080 Ti", 11264, compute_capability=(6, 1))
LARGE = Folder("/root", 10**12)

GOOD = MachineFacts(
    device="cuda",
    gpus=(H100,),
    unread_gpus=(),
    cuda="13.0",
    system="Debian GNU/Linux 12 (bookworm)",
    arch="x86_64",
    glibc="2.36",
    python="3.11.2",
    user="root",
    rights="root",
    memory_mib=65536,
    cpus=8,
    home=LARGE,
    temporary=Folder("/tmp", 10**12),
    models=Folder("/root/.cache/huggingface/hub", 10**12),
    programs=frozenset({"g++"}),
    has_apt=True,
    package_lock=None,
    skew_s=0.4,
    vllm_version=None,
    venv=None,
    made_venv=False,
    hub_variables={},
    ports=frozenset({22}),
    public={},
)


def no_gpu(reason: str) -> dict[str, Any]:
    return {"device": "unknown", "gpus": (), "unread_gpus": (reason,)}


# the case, what is otherwise than on a good machine, the step, and words of text and hint
STOPS: dict[str, tuple[dict[str, Any], str, str]] = {
    "P40": ({"gpus": (P40,)}, "gpus", "1x Tesla P40 (compute capability 6.1): it needs 7.5 or newer"),
    "V100": ({"gpus": (V100,)}, "gpus", "Tesla V100-SXM2-32GB (compute capability 7.0)"),
    "GTX 1080 Ti": ({"gpus": (GTX, replace(GTX, id=1))}, "gpus", "2x GeForce GTX 1080 Ti"),
    "an old driver": ({"cuda": "11.4"}, "gpus", "supports CUDA up to 11.4, but vLLM needs 12"),
    "AMD": ({"device": "amd", "gpus": ()}, "gpus", "this pod has AMD GPUs"),
    "hidden GPUs": (
        no_gpu("NVIDIA devices without nvidia-smi: /dev/nvidia0"),
        "gpus",
        "has a GPU, but no nvidia-smi (/dev/nvidia0)|NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    ),
    "missing libraries": (
        no_gpu("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system."),
        "gpus",
        "libnvidia-ml.so|set LD_LIBRARY_PATH to their folder",
    ),
    "a silent nvidia-smi": (
        no_gpu("nvidia-smi did not answer within 60 s"),
        "gpus",
        "nvidia-smi did not answer within 60 s|nvidia-smi -pm 1",
    ),
    "MIG without slices": (
        no_gpu(
            "0, NVIDIA A100-SXM4-80GB, 81920, 45, GPU-1f0c0e3a-0000-0000-0000-000000000001, 8.0, 550.90.07, Enabled"
        ),
        "gpus",
        "is cut into slices (MIG)|nvidia-smi -mig 0",
    ),
    "a hidden slice": (
        no_gpu("0, NVIDIA A100-SXM4-80GB, [Insufficient Permissions], [N/A]"),
        "gpus",
        "shows no usable GPU|nvidia-smi -L must list it",
    ),
    "a broken driver": (no_gpu("No devices were found"), "gpus", "shows no GPU: No devices were found|reboot the pod"),
    "an old glibc": ({"glibc": "2.17", "system": "CentOS Linux 7"}, "system", "CentOS Linux 7 has glibc 2.17"),
    "musl": ({"glibc": None, "system": "Alpine Linux v3.22"}, "system", "Alpine Linux v3.22 has no GNU C library"),
    "another processor": ({"arch": "ppc64le"}, "system", "vLLM is not built for ppc64le"),
    "a home without programs": (
        {"home": replace(LARGE, runs=False)},
        "system",
        "programs in /root do not run: it is mounted noexec|mount -o remount,exec /root",
    ),
    "a home for reading": (
        {"home": replace(LARGE, problem="Read-only file system", runs=False)},
        "system",
        "cannot write /root (Read-only file system)",
    ),
    "a small disk": ({"home": Folder("/root", 5 * 10**9)}, "system", "5.0 GB free, and vLLM needs about 12 GB"),
    "a small disk for the CPU build": (
        {"device": "cpu", "gpus": (), "home": Folder("/root", 10**9)},
        "system",
        "1.0 GB free, and vLLM needs about 3 GB",
    ),
    "somebody's venv with an old Python": (
        {"venv": "3.10.12"},
        "venv",
        "~/venv is not from pi: it has Python 3.10.12, and vLLM needs 3.11 to 3.14|mv ~/venv ~/venv.mine",
    ),
    "somebody's venv without vLLM": ({"venv": "3.12.3"}, "venv", "it has Python 3.12.3 without vLLM"),
    "somebody's folder": ({"venv": ""}, "venv", "it is not a working virtual environment"),
    "a venv with a Python of the future": (
        {"venv": "3.15.0", "vllm_version": "0.33.0"},
        "venv",
        "it has Python 3.15.0",
    ),
}


@pytest.mark.parametrize(("changes", "step", "words"), STOPS.values(), ids=STOPS)
def test_a_machine_that_cannot_serve_is_stopped_before_anything_is_downloaded(
    changes: dict[str, Any], step: str, words: str
) -> None:
    stops = findings(replace(GOOD, **changes)).stops
    assert [found.step for found in stops] == [step]
    text, _, hint = words.partition("|")
    assert text in stops[0].text and stops[0].hint and hint in stops[0].hint


NOTES: dict[str, tuple[dict[str, Any], str]] = {
    "no GPU": ({"device": "cpu", "gpus": ()}, "no NVIDIA driver (nvidia-smi not found)"),
    "one old card of two": ({"gpus": (H100, P40)}, "1x Tesla P40 (compute capability 6.1)"),
    "other output": ({"unread_gpus": ("WARNING: infoROM is corrupted",)}, "WARNING: infoROM is corrupted"),
    "one sliced card without slices": (
        {"unread_gpus": ("1, NVIDIA A100, 81920, Enabled",)},
        "nvidia-smi -L lists none",
    ),
    "no programs in /tmp": ({"temporary": Folder("/tmp", 1, runs=False)}, "programs in /tmp do not run"),
    "no /tmp": ({"temporary": Folder("/x", 0, "No such file or directory")}, "cannot write /x (No such file"),
    "no room for models": ({"models": Folder("/m", 10**9)}, "/m has 1.0 GB free for models"),
    "no compiler, no rights": (
        {"programs": frozenset(), "rights": "none", "user": "ann"},
        "user 'ann' may not install",
    ),
    "no compiler, no apt": ({"programs": frozenset(), "has_apt": False}, "no apt-get to install one"),
    "packages are being installed": (
        {"programs": frozenset(), "package_lock": "pid 77 (unattended-upgr)"},
        "pid 77 (unattended-upgr) is installing packages; setup waits",
    ),
    "a clock that is behind": ({"skew_s": -3 * 86400.0}, "the pod's clock is 3 days behind yours"),
    "a clock that is ahead": ({"skew_s": 600.0}, "the pod's clock is 10 min ahead of yours"),
    "somebody's venv with vLLM": (
        {"venv": "3.14.2", "vllm_version": "0.33.0"},
        "setup uses its vLLM 0.33.0 and does not change it",
    ),
    "hidden variables": ({"hides_variables": True}, "does not see how the provider maps ports"),
    "a small disk for an extra venv": (
        {"vllm_version": "0.33.0", "installs": True, "home": Folder("/root", 5 * 10**9)},
        "/root has 5.0 GB free, and vLLM needs about 12 GB",
    ),
    "the hub's variables": (
        {"hub_variables": {"HF_HOME": "/x/hf"}, "models_path": "/mnt/store"},
        "models go to /mnt/store: pi's servers ignore the pod's HF_HOME=/x/hf",
    ),
}


@pytest.mark.parametrize(("changes", "words"), NOTES.values(), ids=NOTES)
def test_a_user_learns_what_may_go_wrong(changes: dict[str, Any], words: str) -> None:
    found = findings(replace(GOOD, **changes))
    assert not found.stops
    assert any(words in note.text for note in found.notes)


SILENT: dict[str, dict[str, Any]] = {
    "a good machine": {},
    "a disk that is full of an installed vLLM": {"home": Folder("/root", 10**9), "vllm_version": "0.33.0"},
    "hub variables without a requested folder": {"hub_variables": {"HF_HOME": "/x/hf"}},
    "a lock while nothing is to be installed": {"package_lock": "pid 77 (apt-get)"},
    "pi's own venv, broken": {"venv": "", "made_venv": True},
    "hidden variables that other processes have": {"hides_variables": True, "public": {"PUBLIC_IPADDR": "203.0.113.9"}},
    "GB10": {"gpus": (Gpu(0, "GB10", 122570, compute_capability=(12, 1)),)},
    "T4, the oldest": {"gpus": (Gpu(0, "Tesla T4", 15360, compute_capability=(7, 5)),)},
    "a card that does not tell its capability": {"gpus": (Gpu(0, "Unknown", 15360),)},
}


@pytest.mark.parametrize("changes", SILENT.values(), ids=SILENT)
def test_nothing_is_said_of(changes: dict[str, Any]) -> None:
    assert findings(replace(GOOD, **changes)).all == ()


def test_the_line_of_the_gpus() -> None:
    slices = tuple(Gpu(index, "A100 MIG 1g.10gb", 9984) for index in (0, 101))
    for gpus, words in (((H100,), "1 GPU"), (slices, "2 MIG slices"), ((H100, *slices), "1 GPU, 2 MIG slices")):
        line = preflight.gpus_line(replace(GOOD, gpus=gpus))
        assert line == f"{words}, the driver supports CUDA up to 13.0"
    assert preflight.gpus_line(replace(GOOD, device="cpu", gpus=())) == "no GPU"


MODELS = [
    ("a catalog model", "Qwen/Qwen3-8B", None),
    ("raw arguments", "Qwen/Qwen3-8B", Arguments()),
    ("any", "a/b", None),
]


@pytest.mark.parametrize(("model", "raw"), [case[1:] for case in MODELS], ids=[case[0] for case in MODELS])
def test_a_plan_uses_no_card_that_vllm_does_not_serve(model: str, raw: Arguments | None) -> None:
    request, catalog = Request(ModelId(model), "x", vllm_args=raw), load()
    with pytest.raises(PiError) as caught:
        planner.plan(request, PodFacts((P40,)), catalog)
    assert caught.value.id == "gpus-too-old"
    assert planner.plan(request, PodFacts((P40, replace(H100, id=2))), catalog).gpus == (2,)
    with pytest.raises(PiError, match=r"the PyTorch of this pod has no code for 1x H100 .*\(compute capability 9\.0\)"):
        planner.plan(request, PodFacts((H100,), without_code=frozenset({0})), catalog)
    two = PodFacts((H100, replace(H100, id=2)), without_code=frozenset({0}))
    assert planner.plan(request, two, catalog).gpus == (2,)
    with pytest.raises(PiError) as caught:
        planner.plan(request, PodFacts((), unread_gpus=("No devices were found",), device="unknown"), catalog)
    assert caught.value.id == "gpus-unreadable"
