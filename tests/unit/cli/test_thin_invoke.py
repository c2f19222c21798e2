"""What Invoke imports and pi never needs is loaded only when it is used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_python(program: str, home: Path) -> str:
    """What a Python program prints, in a process of its own with this home."""
    environment = {**os.environ, "HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_pi_loads_neither_mock_nor_yaml(tmp_path: Path) -> None:
    program = """
import sys, pi.cli.program
print([name for name in ("unittest.mock", "asyncio", "ssl", "invoke.vendor.yaml") if name in sys.modules])"""
    assert run_python(program, tmp_path) == "[]"


def test_mock_context_still_works(tmp_path: Path) -> None:
    program = """
import pi.cli.program
from invoke import MockContext, Result
c = MockContext(run=Result("hello"))
print(c.run("greet").stdout, c.run.call_args)"""
    assert run_python(program, tmp_path) == "hello call('greet')"


def test_a_mock_imported_later_is_the_real_one(tmp_path: Path) -> None:
    program = """
import pi.cli.program
from unittest.mock import Mock
print(Mock.__module__, isinstance(Mock(), Mock))"""
    assert run_python(program, tmp_path) == "unittest.mock True"


def test_the_users_yaml_is_read(tmp_path: Path) -> None:
    (tmp_path / ".pi.yaml").write_text("run:\n  shell: /bin/zsh\n")
    program = """
from pi.cli.program import PiConfig
print(PiConfig(lazy=True).run.shell, end=" ")
print(PiConfig().run.shell)"""
    assert run_python(program, tmp_path) == "/bin/bash /bin/zsh"


def test_invoke_that_is_already_loaded_stays_as_it_is(tmp_path: Path) -> None:
    program = """
import invoke, sys
before = sys.modules["unittest.mock"], sys.modules["invoke.vendor.yaml"]
import pi.cli.program
print(before == (sys.modules["unittest.mock"], sys.modules["invoke.vendor.yaml"]))"""
    assert run_python(program, tmp_path) == "True"
