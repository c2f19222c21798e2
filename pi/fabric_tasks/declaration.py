"""Read pi.toml: pods by name, and the models that run on each."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from pi.errors import InputError
from pi.fabric_tasks.start_options import mistakes, read_options
from pi.pods.types import NAME
from pi.steps.declared import Declared
from pi.text import count, one_line

FILE = "pi.toml"

LARGEST = 1 << 20
"""Bytes of the largest file that pi reads; a model takes about 200."""


def read(path: str | None, known_pods: Mapping[str, object]) -> list[Declared]:
    """Return the models of a file, in its order. Raises InputError with a line for each mistake."""
    file = Path(path or FILE)
    try:
        with file.open("rb") as opened:
            raw = opened.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise InputError("declaration-invalid", f"{file} has more than {LARGEST} bytes", "name another file")
        document = tomllib.loads(raw.decode("utf-8-sig"))
    except FileNotFoundError:
        raise InputError(
            "declaration-missing", f"there is no {file}", f"write it from what runs: pi export > {FILE}"
        ) from None
    except OSError as error:
        raise InputError("declaration-unreadable", f"cannot read {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InputError("declaration-invalid", f"{file}: {problem}", "docs/declare.md has an example") from None
    if found := all_mistakes(document, known_pods):
        lines = "".join(f"\n  {one_line(line, 300)}" for line in found)
        raise DeclarationError(f"{file} has {count(len(found), 'mistake')}:{lines}")
    return [
        Declared(pod, name, read_options(name, table).start())
        for pod, entry in document.get("pods", {}).items()
        for name, table in entry.get("models", {}).items()
    ]


class DeclarationError(InputError):
    """Mistakes in a file, one on each line."""

    def __init__(self, message: str) -> None:
        super().__init__("declaration-invalid", message)

    def render(self) -> str:
        return super(InputError, self).render()


def all_mistakes(document: Mapping[str, Any], known_pods: Mapping[str, object]) -> list[str]:
    """Return each mistake with its place and what to write."""
    found = [f"{key}: unknown key; pi.toml has only pods" for key in document if key != "pods"]
    pods = document.get("pods")
    if not isinstance(pods, dict) or not pods:
        return [*found, "pods: write a table for each model, such as [pods.dc1.models.qwen]"]
    for pod, entry in pods.items():
        place = f"pods.{pod}"
        if pod not in known_pods:
            known = f"you have {', '.join(known_pods)}" if known_pods else "you have none"
            found.append(f'{place}: unknown pod; {known}; add it: pi pods setup {pod} "ssh ..."')
        if not isinstance(entry, dict):
            found.append(f"{place}: write a table, such as [pods.{pod}.models.qwen]")
            continue
        found += [f"{place}.{key}: unknown key; a pod has only models" for key in entry if key != "models"]
        found += _of_models(f"{place}.models", entry.get("models", {}))
    return found


def _of_models(place: str, models: Any) -> list[str]:
    if not isinstance(models, dict):
        return [f"{place}: write a table for each model, such as [{place}.qwen]"]
    found = []
    for name, table in models.items():
        if not NAME.fullmatch(name):
            found.append(f"{place}.{name}: invalid name; use letters, digits, '.', '_' and '-'")
        elif not isinstance(table, dict):
            found.append(f'{place}.{name}: write a table with model = "OWNER/NAME"')
        else:
            found += [f"{place}.{name}: {mistake}" for mistake in mistakes(name, table)]
    return found
