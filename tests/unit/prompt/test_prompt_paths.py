"""Paths that tools may read: inside the root, and never private ones."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pi.prompt.limits import ToolError
from pi.prompt.paths import PathPolicy


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> PathPolicy:
    top = tmp_path_factory.mktemp("paths")
    for name in ("root/src", "root/.ssh", "root/config", "root/sub/.SSH", "root-evil", "outside"):
        (top / name).mkdir(parents=True)
        (top / name / "file.txt").write_text(name)
    root = top / "root"
    (root / "inside-link").symlink_to(root / "src")
    (root / "outside-link").symlink_to(top / "outside")
    (root / "outside-file").symlink_to("../outside/file.txt")
    (root / "chain").symlink_to("outside-link")
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("nowhere")
    (root / "to-ssh").symlink_to(".ssh")
    (root / "to-proc").symlink_to("/proc")
    os.mkfifo(root / "pipe")
    return PathPolicy.of(root, root / "config")


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("src/file.txt", "src/file.txt"),
        ("./src/../src/file.txt", "src/file.txt"),
        (".", "."),
        ("inside-link/file.txt", "src/file.txt"),
        ("../root/src", "src"),
        ("pipe", "pipe"),
    ],
)
def test_a_path_inside_is_resolved(policy: PathPolicy, text: str, inside: str) -> None:
    assert policy.resolve(text) == policy.root / inside
    assert policy.resolve(f"{policy.root}/{text}") == policy.root / inside


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("..", "outside the working directory"),
        ("../root-evil/file.txt", "outside the working directory"),
        ("/etc/passwd", "outside the working directory"),
        ("/", "outside the working directory"),
        ("outside-link", "outside the working directory"),
        ("outside-link/file.txt", "outside the working directory"),
        ("outside-link/absent", "outside the working directory"),
        ("outside-file", "outside the working directory"),
        ("chain/file.txt", "outside the working directory"),
        ("/nowhere/at/all", "outside the working directory"),
        (".ssh", "is private"),
        (".ssh/file.txt", "is private"),
        ("to-ssh/file.txt", "is private"),
        ("sub/.SSH/file.txt", "is private"),
        ("config", "is private"),
        ("config/file.txt", "is private"),
        ("/proc/self/environ", "is private"),
        ("to-proc/self/environ", "is private"),
        ("/sys", "is private"),
        ("/dev/zero", "is private"),
        ("absent", "no such file or directory: absent"),
        ("dangling", "no such file or directory: dangling"),
        ("src/file.txt/deeper", "Not a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("nul\0", "null"),
        ("x" * 5000, "File name too long"),
        ("\ud800", "can't encode"),
    ],
)
def test_a_path_outside_or_private_is_an_error(policy: PathPolicy, text: str, says: str) -> None:
    with pytest.raises(ToolError) as refused:
        policy.resolve(text)
    assert says.lower() in str(refused.value).lower()


def test_allow_outside_does_not_allow_private_paths(policy: PathPolicy) -> None:
    wide = PathPolicy(policy.root, policy.private, allow_outside=True)
    assert wide.resolve("outside-file") == policy.root.parent / "outside/file.txt"
    for text in (".ssh/file.txt", "to-ssh", "config/file.txt", "/proc/self/environ", "to-proc", "/dev/null", "/sys"):
        with pytest.raises(ToolError, match="is private"):
            wide.resolve(text)


def test_ssh_keys_are_private_behind_a_symlink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".ssh").symlink_to(tmp_path / "keys")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(ToolError, match="is private"):
        PathPolicy.of(tmp_path, tmp_path / "config").resolve("keys")


def test_the_keys_of_a_pod_on_this_machine_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".pi").mkdir()
    (tmp_path / ".pi" / "env.sh").write_text("export HF_TOKEN=secret\n")
    policy = PathPolicy.of(tmp_path, tmp_path / "config", allow_outside=True)
    with pytest.raises(ToolError, match="is private"):
        policy.resolve(".pi/env.sh")


def test_only_regular_files_are_opened(policy: PathPolicy, tmp_path: Path) -> None:
    os.close(policy.open_file(policy.root / "src/file.txt"))
    with pytest.raises(ToolError, match="is a named pipe"):
        policy.open_file(policy.root / "pipe")
    with pytest.raises(ToolError, match="is a directory"):
        policy.open_file(policy.root / "src")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(ToolError, match="cannot open"):
            PathPolicy(tmp_path).open_file(tmp_path / "s")


def test_a_path_that_changes_after_the_check_is_an_error(policy: PathPolicy) -> None:
    """As when a directory is swapped for a symlink between `resolve` and `open_file`."""
    with pytest.raises(ToolError, match="outside the working directory"):
        policy.open_file(policy.root / "outside-link" / "file.txt")
    with pytest.raises(ToolError, match="cannot open"):
        policy.open_file(policy.root / "outside-file")
    with pytest.raises(ToolError, match="cannot open"):
        policy.open_directory(policy.root / "outside-link")


parts = st.sampled_from(
    [
        *("..", ".", "", "root", "root-evil", "src", "outside", "outside-link", "outside-file", "chain", "inside-link"),
        *(".ssh", "sub", ".SSH", "config", "to-ssh", "to-proc", "self", "root/", "proc", "file.txt", "pipe", "loop"),
    ]
)
paths = st.builds(
    lambda start, rest: start + "/".join(rest), st.sampled_from(["", "/", "./"]), st.lists(parts, max_size=7)
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths | st.text(max_size=12), st.booleans())
def test_every_opened_file_is_inside_and_not_private(policy: PathPolicy, text: str, absolute: bool) -> None:
    if absolute:
        text = f"{policy.root}/{text}"
    try:
        path = policy.resolve(text)
        descriptor = policy.open_file(path)
    except ToolError:
        return
    opened = Path(f"/proc/self/fd/{descriptor}").readlink()
    with os.fdopen(descriptor) as file:
        content = file.read()
    assert opened.is_relative_to(policy.root)
    assert content == "root/src" or opened.parent == policy.root / "sub", (text, content)
