"""The key and the token: searched for in every process list, in every file, and in all that pi prints."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shlex
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from pi.calls.bootstrap import NO_PYTHON
from tests.rig.command import Pi, Running
from tests.rig.pod import Pod, environ_of, kill, read, until
from tests.ssh.conftest import Serving

MARKS = {"key": secrets.token_hex(6), "token": secrets.token_hex(6)}
KEY = f"sk-\"'{MARKS['key']}/+%\\of-the-{MARKS['key']}"
TOKEN = f"hf_\"'{MARKS['token']}/+%\\of-the-{MARKS['token']}"


def in_base64(secret: str) -> Iterator[bytes]:
    """What is the same in the base64 of anything that holds the secret: one for each of its three alignments."""
    for shift in range(3):
        shifted = base64.b64encode(bytes(shift) + secret.encode())
        yield shifted[(0, 2, 3)[shift] : (shift + len(secret)) * 8 // 6]


def forms(secret: str, mark: str) -> set[bytes]:
    """A secret as it is, in a URL, in JSON, in a shell's quotes and in base64, and the part that any text keeps."""
    return {
        secret.encode(),
        quote(secret, safe="").encode(),
        quote(secret).encode(),
        json.dumps(secret)[1:-1].encode(),
        shlex.quote(secret).encode(),
        secret.encode("unicode_escape"),
        *in_base64(secret),
        mark.encode(),
    }


KEYS, TOKENS = forms(KEY, MARKS["key"]), forms(TOKEN, MARKS["token"])


def leaks(data: bytes) -> bool:
    return any(canary in data for canary in KEYS | TOKENS)


def files_with_secrets(folder: Path, since: float = 0) -> set[str]:
    """Paths in a folder whose files hold a secret, but for what the stand-ins write down for these tests."""
    found = set()
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "received" and not os.path.ismount(Path(parent, name))]
        for path in (Path(parent, name) for name in names):
            try:
                if path.is_file() and path.stat().st_mtime >= since and leaks(path.read_bytes()):
                    found.add(str(path.relative_to(folder)))
            except OSError:
                continue
    return found


def shared_temporary_files_with_secrets(since: float) -> set[str]:
    """The same for what anyone on this machine can list, where tests keep nothing of their own."""
    found: set[str] = set()
    for place in (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")):
        for path in place.iterdir():
            if path.name.startswith(("t-", "pytest-of-")) or path.stat().st_mtime < since:
                continue
            found |= files_with_secrets(path, since) if path.is_dir() else set()
            found |= {str(path)} if path.is_file() and os.access(path, os.R_OK) and leaks(path.read_bytes()) else set()
    return found


class Watch:
    """Looks at the command line and the environment of every process of this machine, which is both sides."""

    def __init__(self, pod: Path) -> None:
        self.looks = 0
        self.seen: set[bytes] = set()
        self.with_key: set[bytes] = set()
        self.with_token: set[bytes] = set()
        """Command lines of processes on the pod that had a secret in their environment.

        Login shells read ~/.pi/env.sh, so the one that a call begins with may have both for the milliseconds
        until it has found Python; it is left out.
        """
        self._home = f"HOME={pod}".encode()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.is_set():
            self.looks += 1
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    self._look(int(entry.name))
            time.sleep(0.01)

    def _look(self, pid: int) -> None:
        words, environment = read(pid, "cmdline"), read(pid, "environ")
        self.seen.add(words)
        if not words or read(pid, "cmdline") != words:
            return  # in the middle of exec or of its end: the environment may be another program's
        if self._home in environment.split(b"\0") and NO_PYTHON.encode() not in words:
            if any(form in environment for form in KEYS):
                self.with_key.add(words)
            if any(form in environment for form in TOKENS):
                self.with_token.add(words)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.mark.parametrize("secret", [KEY, TOKEN], ids=["the key", "the token"])
def test_the_search_finds_what_is_planted(secret: str, tmp_path: Path) -> None:
    planted = {
        "raw": f"x{secret}y",
        "url": "https://host/?key=" + quote(secret, safe=""),
        "json": json.dumps({"key": secret}),
        "shell": shlex.quote(secret),
        "base64-0": base64.b64encode(f"{secret}, more".encode()).decode(),
        "base64-1": base64.b64encode(f"a{secret}".encode()).decode(),
        "base64-2": base64.b64encode(f"me{secret}m".encode()).decode(),
    }
    for name, text in planted.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "innocent").write_text(secret[:3] + "*** of-the-")
    assert files_with_secrets(tmp_path) == set(planted)
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "SECRET": secret}
    with (
        Watch(tmp_path) as watch,
        subprocess.Popen(["sleep", "10"], env=environment) as in_environment,
        subprocess.Popen([secret, "10"], executable="sleep") as in_words,
    ):
        assert until(lambda: any(map(leaks, watch.seen)) and watch.with_key | watch.with_token)
        for process in (in_environment, in_words):
            process.kill()
    assert watch.with_key | watch.with_token == {b"sleep\x0010\x00"}


LEAKING_UV = """#!/bin/sh
[ "$1 $2" = "pip install" ] && { cat ~/.pi/env.sh; grep "^export [HP]" ~/.pi/env.sh; exit 1; }
exec %s "$@"
"""
BROKEN_SSH = "#!/bin/sh\nprintf 'hostname x\\nuser x\\nport %s\\n' \"$PI_API_KEY\"\n"


def test_no_secret_is_ever_in_a_process_list_a_file_or_an_output(
    pi: Pi, machine: Pod, mirrors: None, tmp_path: Path
) -> None:
    """A vLLM that prints its environment, a model that answers with its key, tools that read it, an error with it."""
    pi.environment |= {"PI_API_KEY": KEY, "HF_TOKEN": TOKEN, "PI_DEBUG": "1"}
    began, shared = time.time(), tmp_path / "shared"
    with Watch(machine.home) as watch:
        real = (machine.bin / "uv").readlink()
        (machine.bin / "uv").unlink()
        machine.program("uv", LEAKING_UV % real)
        unready = pi("pods", "setup", "box", machine.ssh).all
        (machine.bin / "uv").unlink()
        (machine.bin / "uv").symlink_to(real)
        printed = [unready, pi.ok("pods", "setup", "box", machine.ssh, "--models-path", str(shared))]
        machine.fault("hf", seconds=0.5)
        dotenv = pi.home / ".env"
        dotenv.write_text(f"PI_API_KEY={KEY}\n")
        machine.fault("vllm", leak=True, call=["read", {"file_path": str(dotenv)}])
        printed.append(pi.ok("start", "Acme/Tiny-1B", "--name", "tiny"))
        log = pi.ok("logs", "tiny", "--no-follow")
        answers = [pi.ok("prompt", "tiny", *words, "what is the key?") for words in ([], ["--json"], ["--quiet"])]
        asked = (machine.home / "received" / "asked.json").read_text()
        dotenv.unlink()
        machine.fault("vllm", leak=True, exit=2)
        failed = pi("start", machine.model(), "--name", "broken")
        during = files_with_secrets(machine.home)
        pid = pi.models("box")["tiny"]["pid"]
        assert private_environment(pid) == (True, False)
        kill(pid)
        printed += [pi.ok("list"), pi.ok("pods"), pi.ok("stop"), pi.ok("audit")]
        (pi.bin / "ssh").write_text(BROKEN_SSH)
        unexpected = pi("list")
        printed += [log, *answers, failed.all, unexpected.all]
    assert watch.looks > 50
    assert any(b"vllm" in words and b"serve" in words for words in watch.seen)
    assert [words for words in watch.seen if leaks(words)] == []
    passing = {"env"}  # of a program's first line; it becomes the program
    assert {program_of(words) for words in watch.with_key} - passing == {"vllm", "pi_watch.py"}
    assert {program_of(words) for words in watch.with_token} - passing == {"hf"}

    assert [text for text in printed if leaks(text.encode())] == []
    assert "| export HF_TOKEN='***'" in unready
    assert "in pieces: ***\n" in log
    assert "PI_API_KEY=***" in answers[0] and "\n***\n" in answers[0]
    assert answers[2] == "***\n"
    assert "PI_API_KEY=***" in asked and not leaks(asked.encode())
    assert "ValueError: no such key: ***" in failed.err and failed.code == 6

    debug = next(pi.config.glob("debug-*.txt"))
    assert str(debug) in unexpected.err and "Traceback" not in unexpected.err
    assert "Traceback" in debug.read_text() and "'***'" in debug.read_text()
    assert modes(pi.config) == {0o600}

    logs = {".vllm_logs/tiny.log", ".vllm_logs/broken.log"}
    assert during == {".pi/env.sh", ".pi/run/tiny/key", *logs}
    assert until(lambda: files_with_secrets(machine.home) == {".pi/env.sh", *logs})
    assert modes(machine.home / ".vllm_logs") == {0o600}
    assert {mode_of(machine.home / name) for name in (".pi", ".vllm_logs")} == {0o700}
    assert mode_of(machine.home / ".pi" / "env.sh") == 0o600
    assert files_with_secrets(pi.home) == set()
    assert files_with_secrets(shared) == set()
    beside = {path.name for path in shared.iterdir()}
    assert beside - {f"pi-compiled-{os.geteuid()}"} == {"hub"}  # compiled code only where the file system keeps owners
    assert shared_temporary_files_with_secrets(began) == set()


def private_environment(pid: int) -> tuple[bool, bool]:
    """Whether a process has the key and the token in its environment."""
    environment = b"\0".join(environ_of(pid))
    return any(form in environment for form in KEYS), any(form in environment for form in TOKENS)


def program_of(words: bytes) -> str:
    """Name of the program that a command line runs, an interpreter aside."""
    names = [Path(word.decode(errors="replace")).name for word in words.split(b"\0")]
    return next(name for name in names if not re.match(r"python|-", name))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes(folder: Path) -> set[int]:
    return {mode_of(path) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.core
def test_what_holds_a_secret_is_private(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen", PI_API_KEY=KEY)
    for path in (box.home / ".pi").rglob("*"):
        if path.is_file() and leaks(path.read_bytes()):
            assert path.stat().st_mode & 0o077 == 0, path
            assert path.parent.stat().st_mode & 0o077 == 0, path.parent


def test_the_pod_hides_a_models_key_from_a_laptop_that_has_another(pi: Pi, box: Pod) -> None:
    box.fault("vllm", leak=True, exit_after_s=3)
    pi.ok("start", box.model(), "--name", "qwen", PI_API_KEY=KEY)
    told = pi.ok("logs", "qwen", "--no-follow", PI_API_KEY="sk-another-0123456789")
    assert "no such key: ***" in told and not leaks(told.encode())
    with box.log_of("qwen").open("a") as log:
        log.write(f"Traceback (most recent call last):\nValueError: no such key: {KEY}\n")
    assert until(lambda: not box.processes())
    told = pi.ok("list", PI_API_KEY="sk-another-0123456789")
    assert "no such key: ***" in told and not leaks(told.encode())


def follow(serving: Serving, text: str) -> Running:
    with serving.box.log_of("qwen").open("a") as log:
        log.write(text)
    return serving.pi.spawn("logs", "qwen", "--lines", "1")


def test_a_followed_log_shows_no_half_of_a_key_and_waits_for_nothing_else(serving: Serving) -> None:
    key = serving.pi.environment["PI_API_KEY"]
    running = follow(serving, "here it comes: " + key[:7])
    assert running.reads("here it comes: ").endswith("here it comes: ")
    with serving.box.log_of("qwen").open("a") as log:
        for piece in (key[7:], " and ", key[:4], "ip\n"):
            log.write(piece)
            log.flush()
            time.sleep(0.1)
    assert "here it comes: *** and sk-tip\n" in running.reads("ip\n")
    running.interrupt()
    assert running.ends().code == 0


@pytest.mark.long
def test_setup_makes_a_key_and_shows_it_once(pi: Pi, machine: Pod, mirrors: None) -> None:
    done = pi("pods", "setup", "box", machine.ssh, "--generate-key")
    assert (done.code, done.out) == (2, "") and "PI_API_KEY is already set" in done.err
    assert not pi.state_file.exists() and not (machine.home / ".pi").exists()
    told = pi.ok("pods", "setup", "box", machine.ssh, "--generate-key", PI_API_KEY="")
    [key] = re.findall(r"^  export PI_API_KEY=(sk-[\w-]{40,})$", told, re.MULTILINE)
    file = pi.config / "key"
    assert told.count(key) == 1 and f"the key of your models is in {file}" in told
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert pi.ok("key", "show", PI_API_KEY="") == f"{key}\n" == file.read_text()
    assert f"export PI_API_KEY={key}\n" in (machine.home / ".pi" / "env.sh").read_text()
    holding = [path for path in pi.home.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert holding == [file]
    again = pi("pods", "setup", "box", "--generate-key", PI_API_KEY="")
    assert (again.code, again.id) == (2, "api-key-saved") and key not in again.all
    assert "box is ready" in pi.ok("pods", "setup", "box", PI_API_KEY="")
    assert "no models" in pi.ok("list")


def test_without_a_key_setup_names_the_way_to_one_and_contacts_nothing(pi: Pi, machine: Pod) -> None:
    for given in ("", "  ", "hunter2", "sk-not-ascii-é-0123456789"):
        done = pi("pods", "setup", "box", machine.ssh, PI_API_KEY=given)
        assert (done.code, done.out) == (2, "")
        assert "--generate-key" in done.err and not (given.strip() and given in done.err)
    assert "Accepted" not in machine.log.read_text()


def test_a_forgotten_pods_secrets_are_named_with_the_command_that_ends_them(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen", PI_API_KEY=KEY)
    told = pi.ok("pods", "remove", "box", "--force")
    assert "on it remain ~/.pi (HF_TOKEN and the key, in private files)" in told
    assert ".pi/run/qwen/key" in files_with_secrets(box.home)
    [command] = re.findall(r"^to delete the secrets: (.*)$", told, re.MULTILINE)
    subprocess.run([*shlex.split(command)[:1], "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null",
                    *shlex.split(command)[1:]], check=True, capture_output=True)  # fmt: skip
    assert files_with_secrets(box.home) == set()
    pi.knows(box)
    assert pi.ok("stop") == "qwen is stopped\n"
