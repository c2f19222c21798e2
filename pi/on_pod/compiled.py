"""What vLLM compiles while it starts, kept for later starts: one folder for each vLLM, PyTorch, CPU and kind of GPU.

It is beside the models if --models-path or --mount chose their folder and only this account can change it there: then
pods share it. Otherwise it is in ~/.pi. It contains programs, so a start may load nothing that another user wrote.
What holds for one machine alone (which GPUs reach each other, its free memory) is always in ~/.pi.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import shutil
from typing import Dict, List, NamedTuple, Optional

from pi.on_pod import own_folder, private, reading, records, storage, venvs
from pi.on_pod.pace import paced
from pi.on_pod.shapes import Compiling

PATIENCE_S = 5

OF_VLLM = ("torch_compile_cache", "modelinfos", "deep_gemm", "flashinfer_autotune_cache")
"""Folders below VLLM_CACHE_ROOT (vLLM 0.32, 0.33) that hold for every machine with the same GPUs and packages.

The file `gpu_p2p_access_cache_for_*` and the folder `startup_plan` beside them hold for one machine.
"""

NAME = re.compile(r"vllm-[\w.+-]{1,200}", re.ASCII)

FILE = "compiled"
"""File in a deployment's folder: the name of the folder that it uses."""

READY = "ready"
"""File that a start leaves when it became ready: the next one with the same arguments compiles nothing."""

CPU = "CPU"
"""The card of a pod without GPUs. vLLM's CPU build keeps the graph in a form that it cannot load: each start compiles
("Compiling model again due to a load failure", 0.32). Without that form, torch.compile's own cache works.
"""

STARTUP_PLAN = "startup_plan"

APPLIED = "Applying persisted startup plan"
"""vLLM logs this when it takes the KV cache's size from an earlier start (`vllm/v1/worker/startup_plan.py`)."""


class Place(NamedTuple):
    """Where a start keeps what it compiles.

    `problem` says why that is not beside the models, if it could have been. `own` is the start's own folder in ~/.pi.
    """

    name: str
    folder: str
    own: str
    variables: Dict[str, str]
    problem: Optional[str]


def prepare(venv: str, wanted: Compiling) -> Place:
    """Make the folders of a start, and return them with the variables of vLLM. The pod's own variables win."""
    name = name_of(venv, wanted["card"])
    own = os.path.join(root(), name, "starts", wanted["digest"])
    shared, problem = _shared(name)
    folder = shared or os.path.join(root(), name, "code")
    os.makedirs(own, mode=0o700, exist_ok=True)
    for part in OF_VLLM:
        _link(os.path.join(own, part), os.path.join(folder, part))
    variables = {
        "VLLM_CACHE_ROOT": own,
        "TORCHINDUCTOR_CACHE_DIR": os.path.join(folder, "inductor"),
        "TRITON_CACHE_DIR": os.path.join(folder, "triton"),
        "FLASHINFER_WORKSPACE_BASE": folder,
    }
    if wanted["card"] == CPU:
        variables["VLLM_USE_AOT_COMPILE"] = "0"
    if _may_plan(venv, wanted["card"], own):
        variables["VLLM_ENABLE_STARTUP_PLAN"] = "1"
    return Place(name, folder, own, {key: text for key, text in variables.items() if key not in os.environ}, problem)


def root() -> str:
    return os.path.join(private.HOME, "compiled")


def shared_root() -> Optional[str]:
    """Return the folder beside the models, or None if nobody chose theirs. Storage may hang."""
    chosen = os.path.expanduser(storage.CHOSEN)
    return os.path.join(os.path.realpath(chosen), "pi-compiled-%d" % os.geteuid()) if os.path.islink(chosen) else None


def _shared(name: str) -> "tuple[Optional[str], Optional[str]]":
    """Return this name's folder beside the models, or None and the reason if there is one."""

    def made() -> "tuple[Optional[str], Optional[str]]":
        above = shared_root()
        if above is None:
            return None, None
        problem = own_folder.objection(above)
        if problem:
            return None, problem
        folder = os.path.join(above, name)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        return folder, None

    try:
        return reading.within(paced(PATIENCE_S), made)
    except TimeoutError:
        return None, "the storage does not answer"
    except OSError as error:
        return None, "%s: %s" % (error.filename, (error.strerror or "unknown error").lower())


def _link(path: str, target: str) -> None:
    """Make a link to a folder, which exists from then on."""
    os.makedirs(target, mode=0o700, exist_ok=True)
    if os.path.islink(path) and os.readlink(path) == target:
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    os.symlink(target, path)


def name_of(venv: str, card: str) -> str:
    """Return the name of the folder for a venv and a kind of GPU: "vllm-0.33.0-torch-2.14.0-h100-pcie-80-gib-1f2e3d4c".

    Its last part stands for all that decides whether compiled code runs, and whether vLLM finds it again.
    """
    vllm, torch = venvs.version_of("vllm", venv) or "none", venvs.version_of("torch", venv) or "none"
    parts = (vllm, torch, card, os.path.realpath(venv), *_pythons(venv), *_machine())
    digest = hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()[:8]
    words = re.sub(r"[^a-z0-9]+", "-", card.lower().replace("nvidia", "")).strip("-")[:40].rstrip("-")
    return re.sub(r"[^\w.+-]", "-", "vllm-%s-torch-%s-%s-%s" % (vllm[:40], torch[:40], words, digest), flags=re.ASCII)


def _pythons(venv: str) -> List[str]:
    return sorted(map(os.path.basename, glob.glob(os.path.join(glob.escape(venv), "lib", "python3*"))))


def _machine() -> List[str]:
    """Return what host code depends on: the CPU's instructions (it is compiled for this CPU alone) and libc."""
    cpu = re.search(r"^(?:flags|Features)\s*:(.*)$", reading.beginning("/proc/cpuinfo", 65536), re.MULTILINE)
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except ValueError:
        libc = "other"
    return [os.uname().machine, " ".join(sorted(cpu[1].split())) if cpu else "", libc]


def _may_plan(venv: str, card: str, own: str) -> bool:
    """Return whether vLLM may take the KV cache's size from an earlier start, or keep this one's.

    A start that compiles measures less room (activations of the compiler's own run), so the first one keeps nothing.
    """
    module = os.path.join(glob.escape(venv), "lib/python3*/site-packages/vllm/v1/worker/startup_plan.py")
    return card != CPU and os.path.exists(os.path.join(own, READY)) and bool(glob.glob(module))


def note_ready(place: Place) -> None:
    with contextlib.suppress(OSError), open(os.path.join(place.own, READY), "w"):
        pass


def has_dropped_plan(place: Place, log: str) -> bool:
    """Delete the size of an earlier start if vLLM took it. Returns whether it did."""
    if APPLIED not in log:
        return False
    shutil.rmtree(os.path.join(place.own, STARTUP_PLAN), ignore_errors=True)
    return True


def used_by(deployment: str) -> str:
    """Return the name of the folder that a deployment uses; empty if it has none."""
    return reading.text(os.path.join(records.folder(deployment), FILE), 1024).strip()


def folders() -> Dict[str, List[str]]:
    """Return this account's folders by name: that in ~/.pi, then that beside the models. Storage may hang."""
    found: Dict[str, List[str]] = {}
    for above in filter(None, (root(), shared_root())):
        with contextlib.suppress(OSError):
            if os.lstat(above).st_uid == os.geteuid() and not os.path.islink(above):
                for name in sorted(filter(NAME.fullmatch, os.listdir(above))):
                    found.setdefault(name, []).append(os.path.join(above, name))
    return found


def described(places: List[str]) -> "tuple[int, float]":
    """Return the bytes of some folders, and when a file in them was last used, in seconds since 1970."""
    size, last = 0, 0.0
    for folder, _, names in (step for place in places for step in os.walk(place)):
        for name in names:
            with contextlib.suppress(OSError):
                found = os.lstat(os.path.join(folder, name))
                size, last = size + found.st_size, max(last, found.st_atime, found.st_mtime)
    return size, last


def remove(places: List[str]) -> None:
    """Delete folders. Raises OSError."""
    for place in places:
        shutil.rmtree(place)
