"""The venvs on the pod, and the vLLM in each."""

from __future__ import annotations

import glob
import os
import re
from typing import Dict, List, Optional

from pi.on_pod import reading

VENV = os.path.expanduser("~/venv")


def vllm_version(venv: str = VENV) -> Optional[str]:
    """Return the version of vLLM in a venv, or None if it has no vLLM."""
    return version_of("vllm", venv)


def version_of(package: str, venv: str) -> Optional[str]:
    """Return the version of a package in a venv, from its metadata, or None if the venv lacks it."""
    for path in glob.glob(os.path.join(glob.escape(venv), "lib/python3*/site-packages/%s-*.dist-info" % package)):
        match = re.fullmatch(package + r"-(.+)\.dist-info", os.path.basename(path))
        if match:
            return match.group(1)
    return None


def extra_venvs() -> dict[str, str]:
    """Return the versions of vLLM in the extra venvs that a setup made and checked, by folder."""
    versions = {}
    for mark in glob.glob(glob.escape(VENV) + "-*/.pi-checked"):
        venv = os.path.dirname(mark)
        version = vllm_version(venv)
        if version:
            versions[os.path.basename(venv)] = version
    return versions


CHECKED_BYTES = 4096


def architectures() -> Dict[str, List[str]]:
    """Return the GPU architectures that PyTorch was built for, such as ["sm_80", "sm_90"], by the folder of a venv.

    Setup's test of a venv writes them into the fourth line of its mark. A venv without them is left out.
    """
    found = {}
    for mark in glob.glob(glob.escape(VENV) + "/.pi-checked") + glob.glob(glob.escape(VENV) + "-*/.pi-checked"):
        lines = reading.beginning(mark, CHECKED_BYTES).splitlines()
        archs = lines[3].split() if len(lines) > 3 else []
        if archs:
            found[os.path.basename(os.path.dirname(mark))] = archs
    return found
