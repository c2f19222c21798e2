"""A hub for the real `hf download`: it serves one model over plain HTTP, and cuts connections as a bad line does."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.rig.serving import serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """`cuts` are bytes after which the next answers with weights end; an outage answers 503 to all other requests."""

    address: str
    cuts: list[int] = field(default_factory=list)
    outages: int = 0
    ranges: list[str] = field(default_factory=list)
    """The Range of each request for weights."""


@contextmanager
def cutting_hub(files: Mapping[str, bytes]) -> Iterator[Hub]:
    """Run a hub on which every repository has these files."""
    siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
    tree = [
        {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        for name, content in files.items()
    ]

    class Api(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(has_body=False)

        def do_GET(self) -> None:
            self.answer(has_body=True)

        def answer(self, has_body: bool) -> None:
            path = self.path.partition("?")[0]
            name = path.rpartition(f"/resolve/{COMMIT}/")[2] if "/resolve/" in path else ""
            if hub.outages and has_body and not name:
                hub.outages -= 1
                self.respond(503, b"", has_body)
            elif "/tree/" in path:
                self.respond(200, json.dumps(tree).encode(), has_body)
            elif path.startswith("/api/models/"):
                model = "/".join(path.split("/")[3:5])
                page = {
                    "id": model,
                    "modelId": model,
                    "sha": COMMIT,
                    "siblings": siblings,
                    "tags": [],
                    "private": False,
                }
                self.respond(200, json.dumps(page).encode(), has_body)
            elif name in files:
                self.serve(name, files[name], has_body)
            else:
                self.respond(404, b"", has_body)

        def serve(self, name: str, content: bytes, has_body: bool) -> None:
            headers = {
                "X-Repo-Commit": COMMIT,
                "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
                "Accept-Ranges": "bytes",
            }
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            first = int(wanted[1]) if wanted else 0
            if first:
                headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            is_weights = name.endswith(".safetensors") and has_body
            if is_weights:
                hub.ranges.append(self.headers.get("Range", ""))
            cut = hub.cuts.pop(0) if is_weights and hub.cuts else None
            self.respond(206 if first else 200, content[first:], has_body, headers, cut)

        def respond(
            self,
            code: int,
            body: bytes,
            has_body: bool,
            headers: Mapping[str, str] | None = None,
            cut: int | None = None,
        ) -> None:
            self.send_response(code)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if has_body:
                self.wfile.write(body[:cut])
            self.close_connection = self.close_connection or cut is not None

        def log_message(self, *words: object) -> None:
            """Log nothing."""

    with serving(Api) as address:
        hub = Hub(f"http://{address}")
        yield hub
