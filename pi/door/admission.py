"""Who may pass: the headers Host, Origin, Authorization and x-api-key of a request."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pi.door.kept import EVERYWHERE
from pi.door.refusals import Refused

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

Headers = Sequence[tuple[bytes, bytes]]
"""Headers as ASGI has them: names in small letters."""


@dataclass(frozen=True)
class Admission:
    """The address on which a door listens, and the keys that open it."""

    host: str
    keys: tuple[str, ...] = field(repr=False)

    def check(self, headers: Headers) -> None:
        """Raise Refused for a request of a web page, or without the key.

        A page of another site can reach this machine by a name of its own (DNS rebinding). Its browser then sends that
        name as Host, and sends Origin with it.
        """
        hosts = [_host_of(value) for name, value in headers if name == b"host"]
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            raise Refused(403, "host_not_allowed", "the Host of this request is not an address of the door")
        for name, value in headers:
            if name == b"origin" and not self._is_own(_origin_host(value)):
                raise Refused(403, "origin_not_allowed", "the door answers no web pages of other sites")
        if not any(self._fits(key) for key in keys_in(headers)):
            where = "as Authorization: Bearer KEY or x-api-key: KEY; pi door status says where the key is"
            raise Refused(401, "invalid_api_key", f"the door needs its key, {where}")

    def _is_own(self, host: str | None) -> bool:
        return host is not None and (host in LOOPBACK or host == self.host.lower() or self._is_any_address(host))

    def _is_any_address(self, host: str) -> bool:
        """Return whether the door listens on all addresses and this is one: no name leads a browser to it."""
        return self.host in EVERYWHERE and _is_address(host)

    def _fits(self, given: bytes) -> bool:
        fits = [hmac.compare_digest(given, key.encode()) for key in self.keys]
        return any(fits)


def keys_in(headers: Headers) -> list[bytes]:
    """Return the keys of a request; the word Bearer may have any case."""
    found = []
    for name, value in headers:
        scheme, _, rest = value.strip().partition(b" ")
        if name == b"x-api-key":
            found.append(value.strip())
        elif name == b"authorization" and scheme.lower() == b"bearer":
            found.append(rest.strip())
    return found


def _host_of(value: bytes) -> str | None:
    """Return the host of a Host header without its port, or None if it is malformed."""
    text = value.decode("latin-1").strip().lower()
    if "@" in text or "/" in text:
        return None
    try:
        return urlsplit(f"//{text}").hostname
    except ValueError:
        return None


def _origin_host(value: bytes) -> str | None:
    try:
        origin = urlsplit(value.decode("latin-1").strip().lower())
        return origin.hostname if origin.scheme in ("http", "https") else None
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
