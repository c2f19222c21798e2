"""The tools that a model may call: their schemas, and the checked execution of calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pi.prompt import files, schema
from pi.prompt.history import Call, ToolMessage
from pi.prompt.limits import RESULT_BYTES, Deadline, ToolError, cut
from pi.prompt.paths import PathPolicy
from pi.redaction import redacted
from pi.text import well_formed

PARALLEL_CALLS = 4
"""Most calls of one message that run at the same time."""

MAX_CALLS = 32
"""Most calls of one message; pi does not run the rest."""


@dataclass(frozen=True)
class Tool:
    """A tool as described to the model; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: dict[str, Any]
    run: Callable[..., str]


def _tool(run: Callable[..., str], description: str, required: list[str], **properties: dict[str, Any]) -> Tool:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    return Tool(run.__name__, description, parameters, run)


TOOLS = (
    _tool(
        files.ls,
        "List a directory. Directories end in '/', symlinks show their target.",
        ["path"],
        path={"type": "string", "description": "Absolute path of the directory"},
        ignore={
            "type": "array",
            "items": {"type": "string"},
            "description": "Glob patterns of names to omit",
        },
    ),
    _tool(
        files.read,
        f"Read a text file: {files.LINES} lines or {RESULT_BYTES // 1024} KiB at most in one call.",
        ["file_path"],
        file_path={"type": "string", "description": "Absolute path of the file"},
        offset={"type": "integer", "minimum": 1, "description": "Number of the first line to read"},
        limit={"type": "integer", "minimum": 1, "description": "Number of lines to read"},
    ),
    _tool(
        files.glob,
        "Find files by name. '**' matches any number of directories. Returns absolute paths.",
        ["pattern"],
        pattern={"type": "string", "description": "Glob pattern, such as **/*.py"},
        path={"type": "string", "description": "Absolute path of the directory to search in"},
    ),
    _tool(
        files.rg,
        "Search file contents with ripgrep. There is no shell: no pipes, no redirection.",
        ["args"],
        args={"type": "string", "description": "Arguments of rg, such as: -n 'def main' src"},
    ),
)
"""All tools; a result has at most 64 KiB, a call takes at most 10 seconds."""


class Toolbox:
    """Runs calls under a path policy. Failures are results too: no call raises."""

    def __init__(self, policy: PathPolicy, tools: Sequence[Tool] = TOOLS) -> None:
        self.tools = tuple(tools)
        self._policy = policy
        self._by_name = {tool.name: tool for tool in tools}

    def emptied(self) -> Toolbox:
        """Return a toolbox without tools, which answers each call with an error."""
        return Toolbox(self._policy, ())

    def run(self, calls: Sequence[Call], show: Callable[[ToolMessage, float], None]) -> list[ToolMessage]:
        """Run calls in parallel, since they only read, and return the results in their order.

        Calls `show` with each result and its seconds, in the same order, as soon as possible. Ctrl+C stops all
        calls and raises KeyboardInterrupt.
        """
        cancelled = threading.Event()
        results = []
        with ThreadPoolExecutor(PARALLEL_CALLS) as pool:
            running = [pool.submit(self._timed, call, cancelled) for call in calls[:MAX_CALLS]]
            try:
                for future in running:
                    message, seconds = future.result()
                    show(message, seconds)
                    results.append(message)
            except BaseException:
                cancelled.set()
                pool.shutdown(cancel_futures=True)
                raise
        for call in calls[MAX_CALLS:]:
            refused = ToolMessage(call.id, call.name, f"not run: more than {MAX_CALLS} calls in one message", True)
            show(refused, 0.0)
            results.append(refused)
        return results

    def _timed(self, call: Call, cancelled: threading.Event) -> tuple[ToolMessage, float]:
        start = time.monotonic()
        return self.call(call, cancelled), time.monotonic() - start

    def call(self, call: Call, cancelled: threading.Event) -> ToolMessage:
        """Return the result of one call."""
        try:
            text, is_error = self._result(call, cancelled), False
        except (ToolError, ValueError) as error:
            text, is_error = str(error), True
        except Exception as error:  # a tool's failure is a result for the model
            text, is_error = f"the tool failed: {type(error).__name__}: {error}", True
        text = cut(redacted(well_formed(text)), "cut: the result is longer than 64 KiB; ask for less")
        return ToolMessage(call.id, call.name, text, is_error)

    def _result(self, call: Call, cancelled: threading.Event) -> str:
        tool = self._by_name.get(call.name)
        if tool is None:
            names = ", ".join(self._by_name) or "none"
            raise ToolError(f"unknown tool {call.name!r}; the tools are: {names}")
        arguments = schema.checked(schema.parsed(call.arguments), tool.parameters)
        return tool.run(self._policy, Deadline(cancelled), **arguments)
