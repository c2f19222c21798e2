"""Whether a deployment answers as itself: our process, our model, our key."""

from __future__ import annotations

import http.client
import json
from typing import Any, Optional

from pi.pod import process, records


def get(port: int, path: str, key: Optional[str] = None, timeout_s: float = 3) -> tuple[int, bytes]:
    """Status and up to 1 MiB of body of `http://127.0.0.1:port/path`; status 0 when nothing answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Authorization": "Bearer " + key} if key else {})
        reply = connection.getresponse()
        return reply.status, reply.read(1 << 20)
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def is_up(port: int) -> bool:
    return get(port, "/health")[0] == 200


def objection(record: dict[str, Any], key: str) -> Optional[str]:
    """Why a server that says it is healthy is still not this deployment, or None when all holds.

    A stranger's server may answer on the port, another model may, and a server may let everyone in.
    """
    port = record["port"]
    if not process.owns_port(records.living(record), port):
        return "port %d is answered by another process than this model's" % port
    status, body = get(port, "/v1/models", key)
    if status != 200:
        return "/v1/models answered %d to the model's own key" % status
    served = _served(body)
    if record["name"] not in served:
        return "/v1/models lists %s, not %s" % (", ".join(sorted(served)) or "nothing", record["name"])
    for path in ("/v1/models", "/metrics", "/tokenize", "/invocations"):
        status = get(port, path)[0]
        if status != 401:
            return "%s answered %d without a key" % (path, status)
    return None


def _served(body: bytes) -> set[str]:
    try:
        return {str(model["id"]) for model in json.loads(body)["data"]}
    except (ValueError, KeyError, TypeError):
        return set()
