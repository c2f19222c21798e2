"""Reject requests without the key on every route of a vLLM server except `GET /health`.

vLLM checks its key only under /v1, /v2, /inference and /cohere. Others, such as /invocations, /tokenize and
/metrics, answer anyone. `vllm serve --middleware pi_guard.Guard` checks the key before all of them.
"""

from __future__ import annotations

import hmac
import os
from typing import Any


class Guard:
    """ASGI middleware. Requests need `Authorization: Bearer KEY`, where KEY is the server's `VLLM_API_KEY`."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._expected = b"Bearer " + os.environ["VLLM_API_KEY"].encode()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" or self._admits(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"error":{"message":"Unauthorized","code":401}}'})

    def _admits(self, scope: dict[str, Any]) -> bool:
        if scope.get("method") == "GET" and scope["path"] == "/health":
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)
