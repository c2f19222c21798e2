"""Checks that a deployment's server is its own process, serves its model and requires its key."""

from __future__ import annotations

import re
import socket
import time
from typing import Any, Optional

from pi.on_pod import process, reading, records
from pi.on_pod.record_shapes import Record

LOOPBACK = "127.0.0.1"

GUARDED = ("/v1/models", "/metrics", "/tokenize", "/invocations", "/no-such-route")
"""Routes that must refuse a caller without the key; vLLM by itself guards only the first, and has no such route."""

GUARD_PATIENCE_S = 10
"""A server that has just answered its key may be slow to refuse others: on a busy machine 3 s were too short."""


def get(
    port: int, path: str, key: Optional[str] = None, timeout_s: float = 3, host: str = LOOPBACK
) -> tuple[int, bytes]:
    """Return status and up to 1 MiB of body of `http://host:port/path`; status 0 if nothing answers.

    The whole answer must come within `timeout_s`: a server may send a byte now and then. `http.client` would take 13 ms
    of the CPU to import, at each call.
    """
    deadline = time.monotonic() + timeout_s
    lines = ["GET %s HTTP/1.0" % path, "Host: %s:%d" % (host, port)]
    lines += ["Authorization: Bearer " + key] if key else []
    answer = b""
    try:
        with socket.socket() as connection:  # `create_connection` would import the tables of IDNA
            connection.settimeout(max(0.05, timeout_s))
            connection.connect((host, port))
            connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
            while not _is_whole(answer):
                left = deadline - time.monotonic()
                if left <= 0:
                    return 0, b""
                connection.settimeout(left)
                piece = connection.recv(1 << 16)
                if not piece:
                    break
                answer += piece
    except (OSError, UnicodeEncodeError):
        return 0, b""
    status = STATUS.match(answer)
    return (int(status[1]), answer.partition(END)[2][:MOST_BYTES]) if status and END in answer else (0, b"")


STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")

LENGTH = re.compile(rb"\ncontent-length: *([0-9]{1,9})\r", re.I)

END = b"\r\n\r\n"

MOST_BYTES = 1 << 20


def _is_whole(answer: bytes) -> bool:
    """Return whether an answer has all the bytes that it announces, or more than pi reads."""
    head, end, body = answer.partition(END)
    length = LENGTH.search(head + b"\r")
    return len(answer) > 2 * MOST_BYTES or (
        bool(end) and len(body) >= min(int(length[1]) if length else MOST_BYTES, MOST_BYTES)
    )


def is_up(port: int, deadline: float = float("inf")) -> bool:
    return get(port, "/health", timeout_s=_until(deadline, 3))[0] == 200


def _until(deadline: float, timeout_s: float) -> float:
    """Return the time-out, or what is left up to the deadline."""
    return min(timeout_s, max(0.05, deadline - time.monotonic()))


def objection(record: Record, key: str, deadline: float = float("inf")) -> Optional[str]:
    """Return why a healthy server is not this deployment, or None if it is.

    Another process or another model may answer on the port, or the server may answer without the key. The last is
    also checked at the pod's outer address. After the deadline, every request fails.
    """
    port = record["port"]
    living = records.living(record)
    others = process.others(port, living)
    if others or not process.holders(process.sockets(port), living):
        who = ", ".join(others) or "it has exited"
        return "another process answers on port %d: %s" % (port, who)
    status, body = get(port, "/v1/models", key, _until(deadline, 3))
    if status != 200:
        return "/v1/models answered %d to the model's own key" % status
    served = _served(body)
    if record.get("replica_of", record["name"]) not in served:
        return "/v1/models lists %s, not %s" % (", ".join(sorted(served)) or "nothing", record["name"])
    return open_door(port, bool(record.get("private")), deadline)


def note_context(record: Record, key: str) -> None:
    """Set the record's `context` to the one that its server reports; embedding models may report none."""
    length = _served(get(record["port"], "/v1/models", key)[1]).get(record.get("replica_of", record["name"]))
    if isinstance(length, int) and not isinstance(length, bool) and length > 0:
        record["context"] = length


def open_door(port: int, private: bool, deadline: float) -> Optional[str]:
    """Return the first route that answers without the key, here or at the outer address, or None."""
    outer = outer_address()
    if private and outer and get(port, "/health", timeout_s=_until(deadline, 3), host=outer)[0]:
        return "the server is private but answers at %s:%d" % (outer, port)
    for host in [LOOPBACK] + ([outer] if outer and not private else []):
        for path in GUARDED:
            status = get(port, path, timeout_s=_until(deadline, GUARD_PATIENCE_S), host=host)[0]
            if status != 401:
                answer = "%s:%d%s answered %s without a key" % (host, port, path, status or "nothing")
                return "pi's guard is not in front of this server: " + answer
    return None


def outer_address() -> Optional[str]:
    """Return this machine's address on its network, or None if it has none but loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address (RFC 5737); UDP sends nothing here
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address


def _served(body: bytes) -> dict[str, Any]:
    """Return `max_model_len` of each model that a server lists, by its id."""
    try:
        return {str(model["id"]): model.get("max_model_len") for model in reading.parsed(body)["data"]}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
