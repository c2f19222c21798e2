"""List the texts of all errors by id, from pi's source. tests/golden/messages.txt contains the list."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "messages.txt"


def listing() -> str:
    """Return all errors, one block each: the id, the message, the hint. A value is written as `{expression}`."""
    return "\n".join(sorted({block for path in _sources() for block in _blocks(path)}))


def _sources() -> list[Path]:
    paths = (ROOT / "pi").rglob("*.py")
    return [path for path in paths if not {"on_pod", "templates"}.intersection(path.parts)]


def _blocks(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and len(node.args) > 1 and _is_error(node.func):
            id, *texts = node.args[:3]
            if isinstance(id, ast.Constant) and isinstance(id.value, str):
                yield "\n".join([f"[{id.value}]", *(f"  {_text(text)}" for text in texts), ""])


def _is_error(called: ast.expr) -> bool:
    name = called.id if isinstance(called, ast.Name) else ""
    return name.endswith("Error") or name in ("Interrupted", "LeftRunning", "Unconfirmed", "ConnectionLost", "Usage")


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.replace("\n", "\\n")
    if isinstance(node, ast.JoinedStr):
        parts = (_text(part.value if isinstance(part, ast.FormattedValue) else part) for part in node.values)
        return "".join(parts)
    return f"{{{ast.unparse(node)}}}"
