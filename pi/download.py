"""Download a small file over HTTPS."""

from __future__ import annotations

import re

from pi.errors import RemoteError

LOCAL = r"http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?/"
"""Addresses that need no TLS: nobody is between pi and them."""


def is_url(text: str) -> bool:
    return re.match(r"https?://", text) is not None


def fetch(url: str, most_bytes: int, timeout_s: float = 30) -> bytes | None:
    """Return a file of at most `most_bytes`, or None if the server does not have it.

    Raises RemoteError if the address or a redirect is not HTTPS, and if the download fails.
    """
    import requests

    try:
        with requests.Session() as session:
            reply = session.get(_safe(url), timeout=timeout_s, stream=True, allow_redirects=False)
            for _ in range(5):
                if reply.next is None or reply.next.url is None:
                    break
                reply = session.get(_safe(reply.next.url), timeout=timeout_s, stream=True, allow_redirects=False)
            if reply.status_code == 404:
                return None
            if reply.status_code != 200:
                raise RemoteError("download-failed", f"{url}: the server answered {reply.status_code}")
            content = reply.raw.read(most_bytes + 1, decode_content=True)
    except (requests.RequestException, OSError) as problem:
        raise RemoteError("download-failed", f"cannot download {url}: {type(problem).__name__}") from None
    if len(content) > most_bytes:
        raise RemoteError("download-too-large", f"{url} has more than {most_bytes} bytes")
    return bytes(content)


def _safe(url: str) -> str:
    if not url.startswith("https://") and not re.match(LOCAL, url):
        raise RemoteError("download-not-https", f"{url} is not an https:// address")
    return url
