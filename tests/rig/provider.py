"""Stand-ins for RunPod's and Vast.ai's API, as far as a pod calls it to stop itself.

Their answers have the shapes of the providers' documentation; no real account was tried.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.rig.pod import Pod
from tests.rig.serving import serving

Answer = tuple[int, Any]

RUNPOD_STOPS: Answer = (200, {"id": "abc123xyz", "desiredStatus": "EXITED", "name": "box"})

VAST_STOPS: Answer = (200, {"success": True})

VAST_REFUSES: Answer = (200, {"success": False, "error": "invalid_args", "msg": "no such instance"})


@dataclass
class Provider:
    """Its address, and the requests that it got: method, path, Authorization and body."""

    address: str
    requests: list[tuple[str, str, str, str]] = field(default_factory=list)

    def stands_in(self, box: Pod, name: str) -> None:
        """Have a model's program on the pod call this stand-in, with short pauses. Only the pod's own account can change that file."""
        program = box.home / ".pi/run" / name / "pi_stop_pod.py"
        text = program.read_text()
        changes = {
            "https://rest.runpod.io": self.address,
            "https://console.vast.ai": self.address,
            "PAUSES_S = (10, 30, 60, 120)": "PAUSES_S = (1, 1, 1, 1)",
        }
        for real, other in changes.items():
            assert real in text
            text = text.replace(real, other)
        replace(program, text)


def replace(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


@contextmanager
def provider(answers: Sequence[Answer]) -> Iterator[Provider]:
    """Run a provider that gives these answers one after the other, then the last one again and again."""
    left = list(answers)

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            found.requests.append((self.command, self.path, self.headers["Authorization"], body))
            code, answer = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_PUT = do_POST

        def log_message(self, *words: object) -> None:
            """Log nothing."""

    with serving(Api) as address:
        found = Provider(f"http://{address}")
        yield found
