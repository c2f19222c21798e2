"""Nasty values over a real sshd: the pod receives exactly what was meant, or is never contacted.

tests/unit/test_hostile.py asks the same of each room by itself.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pi.errors import InputError
from pi.vllm.arguments import Arguments
from pi.vllm.pasted import check_words
from pi.vllm.raw_arguments import check_raw
from tests.rig.command import Pi
from tests.rig.hostile import CANARY, VALUES, is_clean
from tests.rig.patience import patient
from tests.rig.pod import Pod
from tests.ssh.conftest import MOUNT, SUDO, Serving

SIGNS = "".join(map(chr, range(0x21, 0x7F)))
"""Every character that a key may hold."""

TOO_BIG = 100_000
"""A command line takes one argument of 128 KiB."""


def accepted(value: str) -> bool:
    try:
        check_words(["--enforce-eager", value])
        check_raw(Arguments.parse([value]))
    except InputError:
        return False
    return True


def nothing_ran(pi: Pi, pod: Pod) -> None:
    assert not [path for place in (pod.folder, pi.home) for path in place.rglob(f"*{CANARY}*") if path.is_file()]
    assert not Path(CANARY).exists()


ENDING = re.compile("disconnected by user|Disconnected from user")


def contacts(pod: Pod) -> int:
    """Lines of the server's log, which has at least one for each connection, also for one without a login.

    Those of a warm connection that ends are left out.
    """
    return len([line for line in pod.log.read_text().splitlines() if not ENDING.search(line)])


@pytest.mark.long
def test_every_value_that_is_taken_after_vllm_arrives_as_it_is(pi: Pi, box: Pod) -> None:
    """All of them as words of one start; `--` before them, so that none is an option to the stand-in."""
    words = [value for value in VALUES if accepted(value)]
    assert len(words) > 190 and max(len(word.encode()) for word in words) >= TOO_BIG
    pi.ok("start", box.model(), "--name", "q", "--vllm", "--enforce-eager", *words)
    argv = box.received("q")["argv"]
    assert argv[len(argv) - len(words) :] == words
    assert argv[: len(argv) - len(words)][-2:] == ["--disable-fastapi-docs", "--enforce-eager"]
    nothing_ran(pi, box)


def test_every_value_that_is_not_is_refused_before_any_contact(pi: Pi, box: Pod) -> None:
    before = contacts(box)
    refused = [value for value in VALUES if not accepted(value) and "\0" not in value]
    assert len(refused) > 10
    for value in refused[::4]:
        done = pi("start", box.home.as_posix(), "--name", "q", "--vllm", "--enforce-eager", value)
        assert (done.code, done.out) == (2, "") and done.err.count("\n") == 1 and is_clean(done.err), value
    assert contacts(box) == before and box.records() == []


CALLS: dict[str, list[str]] = {
    "a name that is a path": ["start", "a/b", "--name", "../../x"],
    "a name that is an option": ["start", "a/b", "--name", "-rf"],
    "a name that ends a line": ["start", "a/b", "--name", "q\n"],
    "a name that paints": ["stop", "\x1b[2J\x1b]0;x\x07"],
    "a model that is a command": ["start", "$(touch pwned)", "--name", "q"],
    "a model that leaves its folder": ["start", "/m/../../etc", "--name", "q"],
    "a model of bytes": ["start", "/m/\udcff", "--name", "q"],
    "an argument of bytes": ["start", "/m", "--name", "q", "--vllm", "a\udcffb"],
    "an argument of two lines": ["start", "/m", "--name", "q", "--vllm", "a\ntouch pwned"],
    "another program": ["pods", "setup", "lab", "touch pwned"],
    "a program for a proxy": ["pods", "setup", "lab", "ssh -oProxyCommand='touch pwned' root@127.0.0.1"],
    "a mount and more": ["pods", "setup", "lab", "ssh -p 1 root@127.0.0.1", "--mount", "mount h:/x /mnt/m; touch pwned"],
    "a mount over /etc": ["pods", "setup", "lab", "ssh -p 1 root@127.0.0.1", "--mount", "mount h:/x //etc"],
    "a mount with a password": ["pods", "setup", "lab", "ssh -p 1 root@127.0.0.1", "--mount", "mount -o password=hunter2 //h/x /mnt/m"],
    "a models path of the system": ["pods", "setup", "lab", "ssh -p 1 root@127.0.0.1", "--models-path", "//etc/pi"],
    "a huge name": ["logs", "x" * 100_000],
    "a huge number": ["start", "a/b", "--name", "q", "--gpus", "9" * 5000],
}  # fmt: skip


@pytest.mark.parametrize("words", CALLS.values(), ids=CALLS)
def test_a_nasty_call_is_one_line_on_stderr_and_contacts_nobody(serving: Serving, words: list[str]) -> None:
    before = contacts(serving.box)
    done = serving.pi(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("pi: ") and done.err.count("\n") == 1 and len(done.err) < 1400
    assert is_clean(done.err) and "hunter2" not in done.err
    assert contacts(serving.box) == before
    nothing_ran(serving.pi, serving.box)


def folders(home: Path) -> list[Path]:
    """Folders in a pod's home whose names, together, are all values that the name of a folder may be."""
    names = [value for value in VALUES if value.isprintable() and "/" not in value and 2 < len(value.encode()) < 120]
    places, place = [], home / "m"
    for name in names:
        if len(str(place / name)) > 900:
            places.append(place)
            place = home / "m"
        place = place / name
    return [*places, place]


@pytest.mark.long
def test_models_in_folders_of_any_name_are_served_under_it(pi: Pi, box: Pod) -> None:
    places = folders(box.home)
    assert sum(len(place.parts) for place in places) > 90
    for number, place in enumerate(places):
        place.mkdir(parents=True)
        (place / "config.json").write_text('{"max_position_embeddings": 8192}')
        (place / "model.safetensors").write_bytes(bytes(64))
        pi.ok("start", str(place), "--name", f"m{number}")
        assert box.received(f"m{number}")["argv"][1:5] == [str(place), "--served-model-name", str(place), f"m{number}"]
    pi.ok("start", f"~/{places[0].relative_to(box.home)}", "--name", "home")
    assert box.received("home")["argv"][1] == str(places[0])
    assert is_clean(pi.ok("list"))
    nothing_ran(pi, box)


@pytest.mark.core
def test_names_at_the_edge_of_what_is_allowed_work(pi: Pi, box: Pod) -> None:
    model = box.model()
    for name in ("EOF", "a..", "0" * 63):
        pi.ok("start", model, "--name", name)
        assert box.received(name)["argv"][4] == name
        assert f"{name} is stopped" in pi.ok("stop", name)


def test_a_key_of_every_sign_arrives_as_it_is_and_a_longer_one_is_refused(pi: Pi, box: Pod) -> None:
    key = ("k" + SIGNS * 60)[:4096]  # a key that begins with ! is a command
    pi.ok("start", box.model(), "--name", "q", PI_API_KEY=key)
    assert box.received("q")["env"]["VLLM_API_KEY"] == key
    before = contacts(box)
    done = pi("start", box.home.as_posix(), "--name", "r", PI_API_KEY=key + "x")
    assert done.code == 2 and "longer than 4096" in done.err and key not in done.err
    assert contacts(box) == before


def test_a_setup_hands_over_key_token_mount_and_path_exactly(
    pi: Pi, machine: Pod, mirrors: None, tmp_path: Path
) -> None:
    """A mount with hostile words, of which a stand-in for `mount` tells what it got."""
    machine.program("sudo", SUDO)
    machine.program("mount", MOUNT)
    machine.program("mountpoint", '#!/bin/sh\nfor target; do :; done\n[ -e "$target/.mounted" ]\n')
    machine.program("findmnt", "#!/bin/sh\necho server:/models\n")
    machine.program("mount.nfs", "#!/bin/sh\n")
    place = tmp_path / "it's {{7*7}} %s *? ~ \u6f22 -rf !x #y"
    source = "server:/a b{{x}}'%s*~!#[x]\u6f22\\"
    mount = ["mount", "-t", "nfs", "-o", "nconnect=16,x={{7*7}}%s~*?'#!", source, str(place)]
    quoted = " ".join(f'"{word}"'.replace("\\", "\\\\") for word in mount)
    secrets = {"PI_API_KEY": f"sk-{SIGNS}", "HF_TOKEN": f"hf_{SIGNS}"}
    pi.ok("pods", "setup", "box", machine.ssh, "--mount", quoted, **secrets)
    assert (machine.home / "received-mount").read_bytes().decode().replace("\0", "\n").splitlines() == mount[1:]
    assert (machine.home / ".cache" / "huggingface").resolve() == place
    machine.program("tell", '#!/bin/bash\n. ~/.pi/env.sh\nprintf "%s\\n" "$PI_API_KEY" "$HF_TOKEN"\n')
    told = subprocess.run(
        [machine.bin / "tell"], env={"HOME": str(machine.home), "PATH": "/usr/bin:/bin"}, capture_output=True
    )
    assert told.stdout.decode().splitlines() == list(secrets.values())
    nothing_ran(pi, machine)


# --- what a pod says


def logged(values: list[str]) -> bytes:
    return "\n".join(values).encode("utf-8", "replace") + b"\n\xff\xfe\xc3\n"


def test_log_lines_of_every_value_are_safe_in_logs_and_in_the_list(pi: Pi, box: Pod, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(logged(VALUES[:-1]) + b"ValueError: \x1b]52;c;ZXZpbA==\x07bad \x1b[2J\xe2\x80\xaeeulav\n")
    box.fault("vllm", log=str(log), exit_after_s=1.5)
    told = pi.ok("start", box.model(), "--name", "q")
    assert is_clean(told)
    followed = pi("logs", "q")
    assert followed.code == 1 and is_clean(followed.all) and "{{7*7}}" in followed.out
    listed = pi.ok("list")
    table, _, last_lines = listed.partition("\n\n")
    assert is_clean(listed) and "crashed" in table and table.count("\n") == 3 and last_lines.count("\n") == 4
    box.fault("vllm", log=str(log), exit=1)
    failed = pi("start", box.model("n"), "--name", "r")
    assert failed.code == 6 and is_clean(failed.all)
    nothing_ran(pi, box)


@pytest.mark.long
def test_gpus_of_every_name_are_safe_to_show(pi: Pi, box: Pod) -> None:
    card = "0, NVIDIA H100 80GB HBM3, 81559, 81000, GPU-1f0c0e3a-0000-0000-0000-000000000001, 9.0, 580.65.06"
    rows = [f"{number}, {value}, 81559, 4, GPU-x, 9.0, 580" for number, value in enumerate(VALUES[:-1], 1)]
    answer = box.home / "answer"
    answer.write_bytes("\n".join([card, *VALUES[:100], *rows]).encode("utf-8", "replace"))
    box.program("nvidia-smi", f"#!/bin/sh\ncat {answer}\n")
    told = [pi.ok("start", box.model(f"m{number}"), "--name", f"q{number}") for number in range(3)]
    used = {box.received(f"q{number}")["env"]["CUDA_VISIBLE_DEVICES"] for number in range(3)}
    assert len(used) == 3 and all(gpu.isdecimal() and gpu != "0" for gpu in used)
    assert is_clean("".join(told) + pi.ok("list") + pi.ok("models") + pi.ok("plan", box.model("r"), "--name", "r"))
    nothing_ran(pi, box)


def test_an_endless_answer_of_nvidia_smi_is_cut(pi: Pi, box: Pod) -> None:
    box.program(
        "nvidia-smi", f"#!{sys.executable} -S\nwhile True: print('0, NVIDIA H100, 81559, 4, GPU-x, 9.0, 580 ' * 100)\n"
    )
    began = time.monotonic()
    told = pi.ok("list")
    assert time.monotonic() - began < patient(10) and is_clean(told)
    assert box.quiet() == {}


def test_an_endless_login_shell_is_reported_and_left(pi: Pi, box: Pod) -> None:
    (box.home / ".bashrc").write_text("yes 'not an answer'\n")
    done = pi("list")
    assert (done.code, done.out, done.id) == (3, "", "start-up-files-flood")
    assert "printed more than 16 MiB; the last line: " in done.err


LIES: dict[str, dict[str, Any]] = {
    "a name that is a path": {"name": "../../x"},
    "a name that paints": {"name": "\x1b[2Jx\nbox"},
    "a model of two lines": {"model": "a\nbox  running"},
    "an instance that paints": {"instance": "\x1b[2J"},
    "a pid that is text": {"pid": "1; touch pwned"},
    "a port that is none": {"port": 99999999},
    "text for a port": {"port": "8001; touch pwned"},
    "GPUs that are commands": {"gpus": ["0; touch pwned"]},
    "GPUs beyond all": {"gpus": [-1, 10**6]},
    "a share beyond all": {"memory_share": 1e308},
}


@pytest.mark.long
def test_what_a_pod_says_of_its_models_cannot_spoil_what_pi_knows(pi: Pi, box: Pod) -> None:
    """A pod that lies about a model that runs on it, which pi would take over into its notes."""
    pi.ok("start", box.model(), "--name", "q")
    file = box.home / ".pi" / "run" / "q" / "record.json"
    true = file.read_text()
    for lie, told in LIES.items():
        pi.knows(box)
        file.write_text(json.dumps({**json.loads(true), **told}))
        done = pi("list")
        assert done.code in (0, 1) and is_clean(done.all) and "Traceback" not in done.err, lie
        rows = [line for line in done.out.splitlines() if not line.startswith("  ")]
        assert done.code == 1 or len(rows) == 2, lie
        assert pi.ok("pods").count("\n") == 2, lie
    file.write_text(true)
    assert "running" in pi.ok("list")
    nothing_ran(pi, box)
