"""What each client of a model needs: its settings file, variables and commands, from `known/CLIENT.toml`.

Texts there have places such as <url> and <model>, which `filled` replaces.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import tomli_w

FOLDER = Path(__file__).parent / "known"

CLIENTS = (
    "llm", "opencode", "codex", "claude-code", "pi-agent", "qwen-code", "continue", "cline", "aider", "litellm",
    "open-webui", "zed", "curl", "python",
)  # fmt: skip

MOST_OUTPUT = 32_768
"""Tokens of one answer that pi tells clients to ask for at most; Claude Code asks for 32,000 by itself."""


@dataclass(frozen=True)
class File:
    """A client's settings file. `folder` names the variable that moves its folder; `mac` is its path on macOS."""

    path: str
    format: str
    folder: str = ""
    mac: str = ""
    content: Mapping[str, Any] = field(default_factory=dict)
    """What must be there."""
    list: tuple[Any, ...] = ()
    """The same, of a file whose top level is a list."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What pi sets only if the user has set nothing else."""


@dataclass(frozen=True)
class Unsuited:
    """A model that does not suit a client: of a family, or with a context below so many tokens."""

    reason: str
    family: str = ""
    below: int = 0


@dataclass(frozen=True)
class Client:
    """A client. `source` says what its definition rests on; `context` is the least that its work needs."""

    name: str
    source: str
    run: str = ""
    is_agent: bool = False
    context: int = 0
    file: File | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    notes: tuple[str, ...] = ()
    unsuited: tuple[Unsuited, ...] = ()


@dataclass(frozen=True)
class Endpoint:
    """A model as clients reach it. `key` is a shell's word for the key, `key_command` a command that prints it."""

    url: str
    model: str
    context: int | None
    key: str = "$PI_API_KEY"

    @property
    def output(self) -> int | None:
        """Return how many tokens an answer may have, so that a long conversation still fits before it."""
        return None if self.context is None else min(MOST_OUTPUT, max(1, self.context // 4))

    @property
    def key_command(self) -> str:
        return "printenv PI_API_KEY" if self.key == "$PI_API_KEY" else "pi-pods key show"

    def places(self) -> dict[str, str | int | None]:
        in_environment = self.key == "$PI_API_KEY"
        return {
            "url": self.url,
            "root": self.url.removesuffix("/v1"),
            "model": self.model,
            "context": self.context,
            "context-text": None if self.context is None else str(self.context),
            "output": self.output,
            "output-text": None if self.output is None else str(self.output),
            "key": self.key,
            "key-command": self.key_command,
            "environment": "" if in_environment else f'PI_API_KEY="{self.key}" ',
        }


@cache
def client(name: str) -> Client:
    """Return the definition of a client. Raises KeyError for an unknown one."""
    if name not in CLIENTS:
        raise KeyError(name)
    table = tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8"))
    file = table.pop("file", None)
    unsuited = tuple(Unsuited(**each) for each in table.pop("unsuited", ()))
    notes = tuple(table.pop("notes", ()))
    return Client(name=name, file=_file(file) if file else None, unsuited=unsuited, notes=notes, **table)


def _file(table: Mapping[str, Any]) -> File:
    return File(**{**table, "list": tuple(table.get("list", ()))})


_PLACE = re.compile(r"<([a-z-]+)>")


def filled(value: Any, endpoint: Endpoint) -> Any:
    """Return a value with its places replaced. A place alone keeps its type; members without a value are left out."""
    places = endpoint.places()
    if isinstance(value, str):
        alone = _PLACE.fullmatch(value)
        return places[alone[1]] if alone else "\n".join(_filled_lines(value, places))
    if isinstance(value, Mapping):
        pairs = ((filled(key, endpoint), filled(each, endpoint)) for key, each in value.items())
        return {key: each for key, each in pairs if each not in (None, {})}
    if isinstance(value, list | tuple):
        return [filled(each, endpoint) for each in value]
    return value


def _filled_lines(text: str, places: Mapping[str, str | int | None]) -> Iterator[str]:
    """Yield the lines of a text, except those that lack a value."""
    for line in text.split("\n"):
        if all(places[place[1]] is not None for place in _PLACE.finditer(line)):
            yield _PLACE.sub(lambda place: str(places[place[1]]), line)


def shown(file: File, endpoint: Endpoint) -> str:
    """Return everything that belongs into a client's file, in its format."""
    content = filled(file.list or {**file.defaults, **file.content}, endpoint)
    if file.format == "json":
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    if file.format == "toml":
        return tomli_w.dumps(content)
    return "".join(f"{line}\n" for line in _yaml(content))


def _yaml(value: Any) -> list[str]:
    """Return the lines of a block of YAML; strings are written as in JSON, which YAML contains."""
    lines: list[str] = []
    if isinstance(value, Mapping):
        for key, each in value.items():
            block = _yaml(each) if isinstance(each, Mapping) or _is_list_of_tables(each) else []
            lines += [f"{key}:", *(f"  {line}" for line in block)] if block else [f"{key}: {json.dumps(each)}"]
    else:
        for each in value:
            first, *rest = _yaml(each)
            lines += [f"- {first}", *(f"  {line}" for line in rest)]
    return lines


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, Mapping) for each in value)


def warnings(client: Client, endpoint: Endpoint, family: str | None, has_tools: bool | None) -> list[str]:
    """Return why a model may not suit a client. `has_tools` is None if pi does not know."""
    found = []
    if endpoint.context is not None and endpoint.context < client.context:
        found.append(
            f"{client.name} needs a context of about {client.context:,} tokens, and {endpoint.model} has"
            f" {endpoint.context:,}; start it with a larger --context"
        )
    if client.is_agent and has_tools is False:
        found.append(f"{client.name} works with tools, and vLLM has no tool parser for {family}")
    for each in client.unsuited:
        is_short = endpoint.context is not None and endpoint.context < each.below
        if is_short or (family and each.family and each.family in family.lower()):
            found.append(each.reason)
    return found
