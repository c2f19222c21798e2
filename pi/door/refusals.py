"""Errors that the door itself returns, in the shape that the client's API has."""

from __future__ import annotations

import json
import math
from typing import Any

from pi import screen
from pi.on_pod.pace import paced

RESPONSES = "/v1/responses"

ANTHROPIC = "/v1/messages"
"""Paths that begin with this belong to Anthropic's API; all others to OpenAI's."""

OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}

ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


class Refused(Exception):
    """The door has no answer of a model for a request. `retry_s` says when to ask again."""

    def __init__(self, status: int, code: str, message: str, retry_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = screen.printable(message)
        self.retry_s = retry_s

    def headers(self) -> dict[str, str]:
        headers = {"content-type": "application/json"}
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        if self.retry_s is not None:
            headers["retry-after"] = str(math.ceil(paced(self.retry_s)))
        return headers

    def document(self, path: str) -> dict[str, Any]:
        """Return the body for a request to this path."""
        rest = "invalid_request_error" if self.status < 500 else "api_error"
        if path.startswith(ANTHROPIC):
            kind = ANTHROPIC_TYPES.get(self.status, rest)
            return {"type": "error", "error": {"type": kind, "message": self.message}}
        kind = OPENAI_TYPES.get(self.status, rest)
        param = "model" if self.code == "model_not_found" else None
        return {"error": {"message": self.message, "type": kind, "param": param, "code": self.code}}

    def body(self, path: str) -> bytes:
        return json.dumps(self.document(path)).encode()

    def event(self, path: str) -> bytes:
        """Return the event that ends a stream which has already begun.

        Its blank lines end an event that was cut. Clients of all these APIs read an event of this name. The API of
        responses has the fields of the error at its top as well.
        """
        document = {"type": "error", **self.document(path)}
        if path.startswith(RESPONSES):
            document = {"code": self.code, "message": self.message, "param": None, "sequence_number": 0, **document}
        return b"\n\nevent: error\ndata: " + json.dumps(document).encode() + b"\n\n"
