"""Read the arguments of `vllm serve` with the installed vLLM, without a start. Runs in the venv on the pod.

stdin: {"words": ["serve", ...], "variables": [name, ...]}. stdout, last line: {"objection": why vLLM rejects the words
or null, "near": an option with a similar name or null, "unknown": variables that this vLLM does not read}.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from difflib import get_close_matches
from typing import Any

from vllm import envs
from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.utils.argparse_utils import FlexibleArgumentParser

MANAGERS = {
    "tool_call_parser": ("tool_parser_plugin", ToolParserManager),
    "reasoning_parser": ("reasoning_parser_plugin", ReasoningParserManager),
}
"""The list of each kind of parser, and the option whose file may add to it."""


def main() -> None:
    asked = json.load(sys.stdin)
    verb = ServeSubcommand()
    parser = FlexibleArgumentParser(prog="vllm")
    serve = verb.subparser_init(parser.add_subparsers(dest="subparser"))
    objection = object_to(asked["words"], parser, verb)
    unknown = [
        name for name in asked["variables"] if name.startswith("VLLM_") and name not in envs.environment_variables
    ]
    near = near_option(objection or "", serve)
    print("\n" + json.dumps({"objection": objection, "near": near, "unknown": unknown}))


def object_to(words: list[str], parser: argparse.ArgumentParser, verb: ServeSubcommand) -> str | None:
    """Return why vLLM rejects these words, or None."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            args = parser.parse_args(words)
            verb.validate(args)
    except SystemExit as ending:
        return said.getvalue().partition(": error: ")[2].strip() if ending.code else "--help only prints vLLM's help"
    except IndexError:  # vLLM takes the value of `--x.y` from the next word
        return "the last argument needs a value"
    except Exception as problem:  # of any class: it would end the start, too
        return f"{type(problem).__name__}: {problem}"
    return unknown_parser(args)


def unknown_parser(args: argparse.Namespace) -> str | None:
    """Return the objection to the name of a parser that this vLLM does not have, or None."""
    for attribute, (plugin, manager) in MANAGERS.items():
        name: Any = getattr(args, attribute, None)
        if name and not getattr(args, plugin, None) and name not in manager.list_registered():
            close = get_close_matches(name, manager.list_registered(), 1)
            meant = f" (did you mean {close[0]}?)" if close else ""
            return f"argument --{attribute.replace('_', '-')}: unknown parser {name!r}{meant}"
    return None


def near_option(objection: str, serve: argparse.ArgumentParser) -> str | None:
    """Return the option of vLLM that is most like the unrecognized one, or None."""
    _, unrecognized, words = objection.partition("unrecognized arguments: ")
    if not unrecognized:
        return None
    option = words.split()[0].partition("=")[0].replace("_", "-")
    return next(iter(get_close_matches(option, serve._option_string_actions, 1)), None)


if __name__ == "__main__":
    main()
