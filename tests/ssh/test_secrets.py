"""The key and the token: searched for in every process list, in every file, and in all that pi prints."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from urllib.parse import quote

from tests.rig.command import Pi
from tests.rig.pod import FIXTURES, Pod, read, until

KEY = 'sk-"CANARY/+%\\of-the-key'
TOKEN = 'hf_"CANARY/+%\\of-the-token'


def forms(secret: str) -> set[bytes]:
    """A secret as it is, in a URL, in JSON and in a shell's quotes."""
    return {
        secret.encode(),
        quote(secret, safe="").encode(),
        quote(secret).encode(),
        json.dumps(secret)[1:-1].encode(),
        secret.encode("unicode_escape"),
    }


CANARIES = forms(KEY) | forms(TOKEN) | {b"of-the-key", b"of-the-token"}


def leaks(data: bytes) -> bool:
    return any(canary in data for canary in CANARIES)


class Watch:
    """Looks at the command line of every process of this machine, which is both sides, as often as it can."""

    def __init__(self) -> None:
        self.looks = 0
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.is_set():
            self.looks += 1
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    self.seen.add(read(int(entry.name), "cmdline"))
            time.sleep(0.01)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_no_secret_is_ever_in_a_process_list_a_file_or_an_output(pi: Pi, machine: Pod, mirrors: None) -> None:
    pi.environment |= {"PI_API_KEY": KEY, "HF_TOKEN": TOKEN, "PI_DEBUG": "1"}
    printed = []
    with Watch() as watch:
        printed.append(pi.ok("pods", "setup", "box", machine.ssh))
        model = machine.model()
        machine.fault("hf", seconds=0.5)
        printed.append(pi.ok("start", "Acme/Tiny-1B", "--name", "tiny"))
        machine.fault("vllm", log=str(FIXTURES / "vllm_logs" / "unknown_arg.log"), exit=2)
        printed.append(pi("start", model, "--name", "broken").all)
        machine.fault("vllm")
        printed.append(pi.ok("prompt", "tiny", "hello"))
        printed.append(pi.ok("list") + pi.ok("logs", "tiny", "--no-follow") + pi.ok("pods"))
        machine.down()
        printed.append(pi("list").all)
        machine.up()
        private = files_with_secrets(machine.home)
        printed.append(pi.ok("stop"))
    assert watch.looks > 50
    assert any(b"vllm" in words and b"serve" in words for words in watch.seen)
    assert [words for words in watch.seen if leaks(words)] == []
    assert not leaks("".join(printed).encode())
    assert private == {".pi/env.sh", ".pi/run/tiny/key"}
    assert files_with_secrets(pi.home) == set()
    assert until(lambda: files_with_secrets(machine.home) == {".pi/env.sh"})


def files_with_secrets(folder: Path) -> set[str]:
    """Paths in a folder whose files hold a secret, but for what the stand-ins write down for these tests."""
    files = [path for path in folder.rglob("*") if path.is_file() and "received" not in path.parts]
    return {str(path.relative_to(folder)) for path in files if leaks(path.read_bytes())}


def test_what_holds_a_secret_is_private(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen", PI_API_KEY=KEY)
    for path in (box.home / ".pi").rglob("*"):
        if path.is_file() and leaks(path.read_bytes()):
            assert path.stat().st_mode & 0o077 == 0, path
            assert path.parent.stat().st_mode & 0o077 == 0, path.parent
