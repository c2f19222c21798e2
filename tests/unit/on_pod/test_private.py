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
        skip("root")
    os.chown(pod / name, 65534, -1)
    for is_setup in (True, False):
        assert private.objection(is_setup) == f"~/{name} on the pod belongs to another user (uid 65534)"


@pytest.mark.parametrize("name", ["env.sh", "machine"])
def test_a_file_of_another_user_is_refused_until_a_setup_replaces_it(pod: Path, name: str) -> None:
    if os.geteuid():
        skip("root")
    os.chown(pod / ".pi" / name, 65534, -1)
    refusal = f"~/.pi/{name} on the pod belongs to another user (uid 65534)"
    assert private.objection(is_setup=False) == refusal
    assert private.objection(is_setup=True) == (refusal if name == "machine" else None)


def test_a_folder_that_another_user_made_for_a_model_gets_no_launcher(pod: Path) -> None:
    if os.geteuid():
        skip("root")
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
