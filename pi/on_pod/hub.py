"""Facts of a model from the Hugging Face hub, asked with the pod's token."""

from __future__ import annotations

import os
import subprocess
from functools import lru_cache
from http.client import HTTPException
from typing import Any, Optional, cast
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from pi.on_pod import card, checkpoint, reading
from pi.on_pod.doctor_shapes import TokenState
from pi.on_pod.shapes import ModelFacts

TIMEOUT_S = 8

ABSENT = (401, 404)
"""Status of the hub for a repository that does not exist, or not for this token."""


def describe(model: str) -> ModelFacts:
    """Return what the hub says about a model."""
    try:
        page = _page(model)
    except HTTPError as error:
        return {"where": "missing", "absent": error.code in ABSENT}
    except (OSError, ValueError):
        return {"where": "missing"}
    sizes = _sizes(page)
    index = checkpoint.index_name(sizes)
    return {
        "where": "missing",
        "config": card.config(lambda name: json_file(model, name), sizes),
        "weights_bytes": checkpoint.weights_bytes(sizes, json_file(model, index) if index else None),
        "card": card.card(sizes, _template(model, page, sizes), _member(page, "cardData", "base_model")),
    }


def weights_bytes(model: str) -> Optional[int]:
    """Return the bytes of a model's weights by the hub's list of files; None if the hub does not report them."""
    sizes = file_sizes(model)
    return checkpoint.weights_bytes(sizes, None)


def file_sizes(model: str, revision: Optional[str] = None) -> dict[str, int]:
    """Return the sizes of a repository's files; empty if the hub does not report them."""
    try:
        return _sizes(_page(model, revision))
    except (OSError, ValueError):
        return {}


def is_offline() -> bool:
    """Return whether a variable of huggingface_hub forbids the pod to contact the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _page(model: str, revision: Optional[str] = None) -> dict[str, Any]:
    """Return the hub's page of a repository. Raises OSError or ValueError.

    `GET /api/models/ID[/revision/REVISION]?blobs=true` lists `siblings` with `rfilename` and `size`,
    `cardData` of the README.md, and `config` with the architectures and the chat template (Hugging Face Hub API).
    """
    place = model + ("/revision/" + quote(revision, safe="") if revision else "")
    page = _get("api/models/" + place + "?blobs=true")
    if not isinstance(page, dict):
        raise ValueError("no object")
    return page


def _sizes(page: dict[str, Any]) -> dict[str, int]:
    try:
        return {str(file["rfilename"]): max(0, int(file.get("size") or 0)) for file in page["siblings"]}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return {}


def _member(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _template(model: str, page: dict[str, Any], sizes: dict[str, int]) -> Optional[str]:
    """Return the chat template, empty if there is none, or None if the hub does not tell."""
    config = page.get("config")
    text = card.template_text(_member(config, "tokenizer_config"), _member(config, "chat_template_jinja"))
    return text or (_text(model, "chat_template.jinja") if "chat_template.jinja" in sizes else text)


def json_file(model: str, name: str) -> Any:
    """Return a JSON file of a repository, or None if it cannot be fetched."""
    try:
        return _get(model + "/resolve/main/" + name)
    except (OSError, ValueError):
        return None


def _text(model: str, name: str) -> Optional[str]:
    try:
        return _fetch(model + "/resolve/main/" + name).decode("utf-8", "replace")
    except OSError:
        return None


def _get(path: str) -> Any:
    return reading.parsed(_fetch(path))


def _fetch(path: str) -> bytes:
    """Return what the hub answers. Raises OSError; HTTPError has the status."""
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/") + "/" + path
    token = _token()
    headers = {"Authorization": "Bearer " + token} if token else {}
    try:
        with build_opener(Redirects).open(Request(address, headers=headers), timeout=TIMEOUT_S) as reply:
            return cast(bytes, reply.read(16 << 20))
    except HTTPException as error:
        raise OSError("no HTTP answer: %s" % type(error).__name__) from None


class Redirects(HTTPRedirectHandler):
    """Follows redirects. The token goes to no other host, and not from https to http."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Optional[Request]:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        old = urlsplit(req.full_url)  # the request's own host may be a proxy
        if new is not None and (new.host != old.netloc or (old.scheme, new.type) == ("https", "http")):
            new.remove_header("Authorization")
        return new


@lru_cache(maxsize=None)
def _token() -> str:
    """Return HF_TOKEN from the environment file of the setup, as a login shell reads it."""
    done = subprocess.run(
        ["bash", "-c", '. ~/.pi/env.sh && printf %s "${HF_TOKEN:-}"'],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return done.stdout.decode("utf-8", "replace")


def token_state() -> TokenState:
    """Return whether the hub accepts the pod's token, by its answer to `GET /api/whoami-v2`."""
    if not _token():
        return "none"
    try:
        _fetch("api/whoami-v2")
    except HTTPError as error:
        return "rejected" if error.code in (401, 403) else "unknown"
    except OSError:
        return "unknown"
    return "accepted"
