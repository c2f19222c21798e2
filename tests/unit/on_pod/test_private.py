"""pi's folders on a pod: private after every call, and refused if they are not the account's own."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pi.on_pod import private, records
from pi.on_pod.wire import PodError
from tests.rig.skips import skip

FOLDERS = [".pi", ".pi/run", ".pi/calls", ".vllm_logs"]


@pytest.fixture
def pod(home: Path) -> Path:
    """A pod whose image has the umask 000."""
    for name in FOLDERS:
        (home / name).mkdir(exist_ok=True)
        (home / name).chmod(0o777)
    for name in ("env.sh", "machine"):
        (home / ".pi" / name).touch(0o600)
    return home


def test_folders_that_others_may_use_are_closed_to_them(pod: Path) -> None:
    assert private.objection(is_setup=False) is None
    assert {stat.S_IMODE((pod / name).stat().st_mode) for name in FOLDERS} == {0o700}


def test_a_machine_that_was_never_set_up_is_no_problem(home: Path) -> None:
    (home / ".pi").rmdir()
    assert private.objection(is_setup=False) is None
    (home / ".pi").touch()
    assert private.objection(is_setup=True) == "~/.pi on the pod is not a folder"


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_another_user_is_refused(pod: Path, name: str) -> None:
    if os.geteuid():
        skip("users")
    os.chown(pod / name, 65534, -1)
    for is_setup in (True, False):
        assert private.objection(is_setup) == f"~/{name} on the pod belongs to another user (uid 65534)"


@pytest.mark.parametrize("name", ["env.sh", "machine"])
def test_a_file_of_another_user_is_refused_until_a_setup_replaces_it(pod: Path, name: str) -> None:
    if os.geteuid():
        skip("users")
    os.chown(pod / ".pi" / name, 65534, -1)
    refusal = f"~/.pi/{name} on the pod belongs to another user (uid 65534)"
    assert private.objection(is_setup=False) == refusal
    assert private.objection(is_setup=True) == (refusal if name == "machine" else None)


def test_a_folder_that_another_user_made_for_a_model_gets_no_launcher(pod: Path) -> None:
    if os.geteuid():
        skip("users")
    folder = pod / ".pi" / "run" / "qwen"
    folder.mkdir()
    os.chown(folder, 65534, -1)
    with pytest.raises(PodError, match=r"~/\.pi/run/qwen on the pod belongs to another user"):
        records.write("qwen", "launch.sh", "true")


@pytest.mark.parametrize("name", ["env.sh", "machine"])
def test_a_file_that_others_may_write_or_that_is_none_is_refused(pod: Path, name: str) -> None:
    path = pod / ".pi" / name
    path.chmod(0o666)
    assert private.objection(is_setup=False) == f"other users may write ~/.pi/{name} on the pod"
    path.unlink()
    path.symlink_to("/dev/null")
    assert private.objection(is_setup=False) == f"~/.pi/{name} on the pod is not a file"


@pytest.mark.parametrize("name", FOLDERS[1:])
def test_a_folder_that_is_something_else_is_named(pod: Path, name: str) -> None:
    (pod / name).rmdir()
    os.mkfifo(pod / name)
    assert private.folder_objection() == f"~/{name} on the pod is not a folder"
    (pod / name).unlink()
    (pod / name).symlink_to("/nowhere")
    assert private.folder_objection() == f"~/{name} on the pod is not a folder"
    assert private.objection(is_setup=False) is None


VENV = ["venv", "venv/bin", "venv/bin/python", "venv/bin/vllm", "venv/lib/python3.12/site-packages"]


@pytest.fixture(params=["venv", "venv-0.33.0"])
def venv(request: pytest.FixtureRequest, pod: Path) -> Path:
    """A venv that a umask of 000 has made."""
    made = pod / str(request.param)
    for name in ("bin/python", "bin/vllm", "lib/python3.12/site-packages/x"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).touch()
    for path in (made, *made.rglob("*")):
        path.chmod(0o777)
    return made


def test_a_venv_that_others_may_write_is_closed_to_them(venv: Path) -> None:
    assert private.venv_objection() is None
    for name in VENV:
        assert not stat.S_IMODE((venv / name.partition("/")[2]).stat().st_mode) & 0o022, name


@pytest.mark.parametrize("name", VENV)
def test_a_venv_that_another_user_can_change_is_refused(venv: Path, name: str) -> None:
    if os.geteuid():
        skip("users")
    inside = name.partition("/")[2]
    os.chown(venv / inside, 65534, -1)
    what = f"is not safe: {inside} belongs" if inside else "belongs"
    assert private.venv_objection() == f"~/{venv.name} on the pod {what} to another user (uid 65534)"


def test_a_venv_of_root_serves_other_accounts(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid():
        skip("users")
    private.venv_objection()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert private.venv_objection() is None


@pytest.mark.parametrize("name", ["", "uv"])
def test_a_uv_that_another_user_can_change_is_refused(pod: Path, name: str) -> None:
    if os.geteuid():
        skip("users")
    (pod / ".local" / "bin").mkdir(parents=True)
    (pod / ".local" / "bin" / "uv").touch()
    assert private.venv_objection() is None
    os.chown(pod / ".local" / "bin" / name, 65534, -1)
    assert "uv belongs" in str(private.venv_objection()) or not name
    assert str(private.venv_objection()).startswith("~/.local/bin on the pod ")


@pytest.mark.parametrize(
    ("mapped", "problem"),
    [("0 0 4294967295\n", "~/venv on the pod belongs to another user (uid 65534)"), ("1000 1000 1\n", None)],
    ids=["whole machine", "user namespace"],
)
def test_files_from_outside_of_a_user_namespace_are_the_machines(
    pod: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: str, problem: str | None
) -> None:
    if os.geteuid():
        skip("users")
    (pod / "venv").mkdir()
    os.chown(pod / "venv", 65534, -1)
    (tmp_path / "uid_map").write_text(mapped)
    monkeypatch.setattr(private, "UID_MAP", str(tmp_path / "uid_map"))
    assert private.venv_objection() == problem
