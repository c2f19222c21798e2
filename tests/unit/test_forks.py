"""The process that forks commands for the tests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.rig import forks


def test_a_command_that_timed_out_leaves_the_next_ones_alone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pods = {"x": {"ssh": f"ssh -p {silent.getsockname()[1]} root@127.0.0.1", "gpus": [], "models": {}}}
        (tmp_path / "pods.json").write_text(json.dumps({"pods": pods, "active": "x"}))
        environment = {"LANG": "C.UTF-8", "PATH": os.environ["PATH"], "PI_CONFIG_DIR": str(tmp_path)}
        assert forks.run(["pods"], environment, tmp_path, 60).returncode == 0  # its process has started
        with pytest.raises(subprocess.TimeoutExpired):
            forks.run(["list"], environment, tmp_path, 2)
        assert forks.run(["pods"], environment, tmp_path, 60).returncode == 0
