"""A stand-in for the parts of the package `vllm` that read arguments; the `vllm/__init__.py` of a pod's venv.

It takes every word except those that `~/fault/arguments.json` lists in `unknown`. There, `seconds` is the time that
importing vLLM takes, and `broken` makes the import fail. It writes the words into `~/received/arguments.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

PLACES = (
    "vllm.entrypoints",
    "vllm.entrypoints.cli",
    "vllm.entrypoints.cli.serve",
    "vllm.envs",
    "vllm.reasoning",
    "vllm.tool_parsers",
    "vllm.utils",
    "vllm.utils.argparse_utils",
)
"""Modules of the real package from which pi imports."""


def fault() -> dict[str, Any]:
    path = Path.home() / "fault" / "arguments.json"
    settings: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return settings


class FlexibleArgumentParser(argparse.ArgumentParser):
    """Reads `--max-num-seqs` and the names of parsers like the real one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(add_help=False, allow_abbrev=False, prog=options.get("prog"))

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        received = Path.home() / "received"
        received.mkdir(exist_ok=True)
        (received / "arguments.json").write_text(json.dumps(args))
        known, rest = self.parse_known_args(args)
        unknown = [word for word in rest if word.partition("=")[0] in fault().get("unknown", ())]
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known


class ServeSubcommand:
    def subparser_init(self, subparsers: Any) -> argparse.ArgumentParser:
        serve: argparse.ArgumentParser = subparsers.add_parser("serve", usage="vllm serve [model_tag] [options]")
        serve.add_argument("--max-num-seqs", type=int)
        serve.add_argument("--tool-call-parser")
        serve.add_argument("--enable-auto-tool-choice", action="store_true")
        return serve

    def validate(self, args: argparse.Namespace) -> None:
        """Check combinations as `validate_parsed_serve_args` does."""
        if args.enable_auto_tool_choice and not args.tool_call_parser:
            raise TypeError("Error: --enable-auto-tool-choice requires --tool-call-parser")


class ParserManager:
    @staticmethod
    def list_registered() -> list[str]:
        return ["hermes", "qwen3", "qwen3_coder"]


def furnish() -> None:
    """Make the modules that pi's program imports."""
    settings = fault()
    time.sleep(settings.get("seconds", 0.0))
    if settings.get("broken"):
        raise ImportError("libcudart.so.13: cannot open shared object file")
    for place in PLACES:
        parent, _, name = place.rpartition(".")
        module = sys.modules[place] = ModuleType(place)
        setattr(sys.modules[parent], name, module)
    names: dict[str, Any] = {
        "vllm.entrypoints.cli.serve": ServeSubcommand,
        "vllm.reasoning": type("ReasoningParserManager", (ParserManager,), {}),
        "vllm.tool_parsers": type("ToolParserManager", (ParserManager,), {}),
        "vllm.utils.argparse_utils": FlexibleArgumentParser,
    }
    for place, thing in names.items():
        setattr(sys.modules[place], thing.__name__, thing)
    sys.modules["vllm.envs"].environment_variables = {"VLLM_HOST_IP": None, "VLLM_LOGGING_LEVEL": None}  # type: ignore[attr-defined]


if __name__ == "vllm":
    furnish()
