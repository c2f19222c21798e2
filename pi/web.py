"""Ask a server on the web: for a small file over HTTPS, or whether it is up."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING

from pi.errors import RemoteError

if TYPE_CHECKING:
    from requests import Response, Session

LOCAL = r"http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?/"
"""Addresses that need no TLS: nobody is between pi and them."""

PIECE_BYTES = 64 * 1024


def is_url(text: str) -> bool:
    return re.match(r"https?://", text) is not None


def fetch(url: str, most_bytes: int, timeout_s: float = 30) -> bytes | None:
    """Return a file of at most `most_bytes`, or None if the server does not have it.

    Raises RemoteError if the address or a redirect is not HTTPS, and if the download fails.
    """
    content = b""
    try:
        with _session() as session, closing(_reply(session, url, timeout_s)) as reply:
            if reply.status_code == 404:
                return None
            if reply.status_code != 200:
                raise RemoteError("download-failed", f"{url}: the server answered {reply.status_code}")
            for piece in reply.iter_content(PIECE_BYTES):
                content += piece
                if len(content) > most_bytes:
                    raise RemoteError("download-too-large", f"{url} has more than {most_bytes} bytes")
    except OSError as problem:  # requests' own errors, too
        raise RemoteError("download-failed", f"cannot download {url}: {type(problem).__name__}") from None
    return content


def answers(base_url: str, timeout_s: float = 2) -> bool:
    """Return whether this machine reaches the health page of vLLM's server, by one quick request."""
    with _session() as session:
        session.trust_env = False
        try:
            reply = session.get(base_url.removesuffix("/v1") + "/health", timeout=timeout_s, allow_redirects=False)
        except OSError:  # requests' own errors, too
            return False
        return reply.status_code == 200


def _reply(session: Session, url: str, timeout_s: float) -> Response:
    """Return the reply of an address, after at most five redirects."""
    reply = session.get(_safe(url), timeout=timeout_s, stream=True, allow_redirects=False)
    for _ in range(5):
        if reply.next is None or reply.next.url is None:
            break
        reply.close()
        reply = session.get(_safe(reply.next.url), timeout=timeout_s, stream=True, allow_redirects=False)
    return reply


def _session() -> Session:
    from requests import Session

    return Session()


def _safe(url: str) -> str:
    if not url.startswith("https://") and not re.match(LOCAL, url):
        raise RemoteError("download-not-https", f"{url} is not an https:// address")
    return url
