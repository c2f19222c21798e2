"""A stand-in for the Hugging Face hub: it lists the sizes of a repository's files and serves the small ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.rig.serving import serving


@contextmanager
def hub(
    sizes: dict[str, int] | None, files: Mapping[str, Any] | None = None, page: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """Run a hub where every repository has files of these sizes and these JSON files. Yields its address.

    `page` is what its page says besides the files. Without `sizes`, the hub has no repository.
    """
    contents = files or {}
    all_sizes = {**{name: len(json.dumps(value)) for name, value in contents.items()}, **(sizes or {})}
    siblings = [{"rfilename": name, "size": size} for name, size in all_sizes.items()]
    listing = None if sizes is None else {**(page or {}), "siblings": siblings}

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_listing = self.path.startswith("/api/models/")
            answer = listing if is_listing else contents.get(self.path.rpartition("/resolve/main/")[2])
            self.send_response(404 if answer is None else 200)
            self.end_headers()
            self.wfile.write(b"" if answer is None else json.dumps(answer).encode())

        def log_message(self, *words: object) -> None:
            """Log nothing."""

    with serving(Hub) as address:
        yield f"http://{address}"
