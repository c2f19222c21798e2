"""The door's routes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pi import faults
from pi.door import names
from pi.door.admission import Admission
from pi.door.background import STATUS
from pi.door.house import House
from pi.door.names import Served
from pi.door.passing import Question, Reply
from pi.door.refusals import Refused

ROUTES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/score",
    "/classify",
    "/pooling",
)
"""Routes of vLLM 0.33.0 whose JSON body names the model."""

LARGEST_BODY = 128 * 1024 * 1024
"""Bytes of a request; some have pictures in them."""


class Admitted:
    """Lets only requests in that `Admission` accepts."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._admission.check(scope["headers"])
            except Refused as refused:
                return await Reply(send).refuse(refused, scope["path"])
        await self._app(scope, receive, send)


class Passage:
    """An ASGI application that passes requests on, and gives up when the client has gone."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, reply = Request(scope, receive), Reply(send)
        try:
            asked = await _question(request)
        except Refused as refused:
            return await reply.refuse(refused, request.url.path)
        except ClientDisconnect:
            return
        answering = asyncio.ensure_future(self._answer(asked, reply))
        leaving = asyncio.ensure_future(_until_gone(receive))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    async def _answer(self, asked: Question, reply: Reply) -> None:
        try:
            await self._house.answer(asked, reply)
        except Refused as refused:
            await reply.refuse(refused, asked.path)
        except Exception as error:
            await reply.refuse(Refused(500, "fault", faults.describe(error)), asked.path)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _question(request: Request) -> Question:
    """Read a request. Raises Refused if its body is too large or does not name a model."""
    if request.method != "POST":
        raise Refused(405, "method_not_allowed", f"{request.url.path} needs POST")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused(415, "encoding_unsupported", "the door reads no compressed bodies; send it as it is")
    too_large = Refused(413, "request_too_large", f"the body has more than {LARGEST_BODY // 2**20} MiB")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > LARGEST_BODY:
        raise too_large
    pieces, size = list[bytes](), 0
    async for piece in request.stream():
        pieces.append(piece)
        size += len(piece)
        if size > LARGEST_BODY:
            raise too_large
    body = b"".join(pieces)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "invalid_json", "the body is not JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get("model"), str):
        raise Refused(400, "model_missing", 'the body has no "model"; GET /v1/models lists them')
    path, query = request.url.path, request.scope["query_string"]
    target = path.encode("ascii") + (b"?" + query if query else b"")
    return Question(path, target, request.headers.raw, body, document)


def application(house: House, admission: Admission) -> Starlette:
    """Return the door's application."""

    async def listed(request: Request) -> Response:
        data = [_model(each) for each in names.listed(house.models())]
        return JSONResponse({"object": "list", "data": data})

    async def one(request: Request) -> Response:
        return JSONResponse(_model(names.find(house.models(), request.path_params["name"])))

    async def status(request: Request) -> Response:
        return JSONResponse(house.status())

    async def no_route(request: Request) -> Response:
        if request.url.path.startswith("/v1/models"):
            raise Refused(405, "method_not_allowed", f"{request.url.path} needs GET")
        raise Refused(404, "unknown_route", f"the door has no {request.url.path}; it has {', '.join(ROUTES)}")

    async def refused(request: Request, error: Any) -> Response:
        path = request.url.path
        return JSONResponse(error.document(path), error.status, headers=error.headers())

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with house.open():
            yield

    return Starlette(
        routes=[
            Route(STATUS, status),
            Route("/v1/models", listed),
            Route("/v1/models/{name:path}", one),
            *(Route(path, Passage(house)) for path in ROUTES),
            Route("/{path:path}", no_route, methods=["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
        ],
        middleware=[Middleware(Admitted, admission=admission)],
        exception_handlers={Refused: refused},
        lifespan=lifespan,
    )


def _model(model: Served) -> dict[str, object]:
    return {"id": model.id, "object": "model", "created": 0, "owned_by": f"pi:{model.pod.name}", "state": model.state}
