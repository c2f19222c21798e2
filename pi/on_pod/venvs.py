"""The venvs on the pod, and the vLLM in each."""

from __future__ import annotations

import glob
import os
import re
from typing import Optional

VENV = os.path.expanduser("~/venv")


def vllm_version(venv: str = VENV) -> Optional[str]:
    """Return the version of vLLM in a venv, from its package metadata, or None if it has no vLLM."""
    for path in glob.glob(os.path.join(glob.escape(venv), "lib/python3*/site-packages/vllm-*.dist-info")):
        match = re.fullmatch(r"vllm-(.+)\.dist-info", os.path.basename(path))
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
