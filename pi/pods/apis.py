"""What a deployment answers to: the routes of vLLM's server by the deployment's API."""

from __future__ import annotations

from dataclasses import dataclass

from pi.errors import InputError


@dataclass(frozen=True)
class Api:
    """`answers` says what requests get, `routes` are paths behind the server's address, `body` an example.

    `body` is JSON with the place NAME for the model's name; empty if the route takes a file.
    """

    answers: str
    routes: tuple[str, ...]
    body: str = ""


APIS = {
    "chat": Api("chats", ("/v1/chat/completions",)),
    "responses": Api("chats", ("/v1/responses", "/v1/chat/completions")),
    "completions": Api(
        "texts to complete, not to chats",
        ("/v1/completions",),
        '{"model": "NAME", "prompt": "Once upon", "max_tokens": 50}',
    ),
    "embedding": Api(
        "texts with their embeddings, not to chats", ("/v1/embeddings",), '{"model": "NAME", "input": ["a text"]}'
    ),
    "rerank": Api(
        "a query and documents with scores, not to chats",
        ("/v1/rerank", "/v1/score"),
        '{"model": "NAME", "query": "a question", "documents": ["a text", "another"]}',
    ),
    "classify": Api("texts with classes, not to chats", ("/classify",), '{"model": "NAME", "input": ["a text"]}'),
    "reward": Api("texts with rewards, not to chats", ("/pooling",), '{"model": "NAME", "input": ["a text"]}'),
    "transcription": Api("sound with its text, not to chats", ("/v1/audio/transcriptions",)),
}
"""Routes of vLLM 0.33.0 (`entrypoints/pooling`, `entrypoints/openai`, `entrypoints/speech_to_text`)."""


def known(api: object) -> str:
    """Return an API of the list; "chat" for anything else."""
    return api if isinstance(api, str) and api in APIS else "chat"


def is_chat(api: str) -> bool:
    return known(api) in ("chat", "responses")


def require_chat(name: str, api: str) -> None:
    """Raise InputError if a deployment does not answer to chats."""
    found = APIS[known(api)]
    if not is_chat(api):
        raise InputError(
            "not-a-chat-model",
            f"{name} answers to {found.answers}",
            f"send requests to {' or '.join(found.routes)} of its server; pi list shows the URL",
        )


def example(api: str, name: str, url: str, key: str) -> str:
    """Return a command that sends a request to a server's API; `url` ends in /v1, `key` is a shell's word for it.

    curl reads the key from a pipe: other users of the machine see arguments, but not those of a shell's own printf.
    """
    found = APIS[known(api)]
    address = url.removesuffix("/v1") + found.routes[0]
    head = f"printf 'Authorization: Bearer %s' \"{key}\" | curl {address} -H @-"
    if not found.body:
        return f"{head} -F model={name} -F file=@FILE.wav"
    return f"{head} -H 'Content-Type: application/json' -d '{found.body.replace('NAME', name)}'"
