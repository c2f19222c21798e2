"""Checks that hold after every test, also after simulated faults."""

from __future__ import annotations

import os
from unittest.mock import patch

from pi.pods import state
from tests.rig.command import Pi
from tests.rig.pod import Pod, environ_of, until

CANARY = "CANARY"
"""The end of every secret in these tests."""


def hold(laptops: list[Pi], pods: list[Pod]) -> None:
    """Check that pods.json is valid, that it names every live deployment, and that no output or file has a secret."""
    named = {entry for pi in laptops for entry in entries(pi)}
    assert until(lambda: not unnamed(pods, named)), f"no entry names {unnamed(pods, named)}"
    for pi in laptops:
        assert CANARY not in "".join(pi.printed)
        for path in pi.config.rglob("*"):
            assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


def entries(pi: Pi) -> set[str]:
    """Return the instances of the deployments in a laptop's pods.json, as pi reads it."""
    with patch.dict(os.environ, PI_CONFIG_DIR=str(pi.config)):
        return {model.instance for pod in state.load().pods.values() for model in pod.models.values()}


def unnamed(pods: list[Pod], named: set[str]) -> dict[int, str]:
    """Return live processes of deployments that are not in `named`."""
    found = {}
    for pod in pods:
        for pid, words in pod.processes().items():
            marks = {entry.decode() for entry in environ_of(pid) if entry.startswith(b"PI_INSTANCE=")}
            if marks - {f"PI_INSTANCE={instance}" for instance in named}:
                found[pid] = words
    return found
