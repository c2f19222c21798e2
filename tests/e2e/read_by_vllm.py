"""Run by the Python of an installed vLLM: reads what pi would give it, and says what vLLM makes of it.

stdin: {"commands": [[word, ...], ...], "environments": [name, ...]}; stdout, last line: what was refused
the removals that it announced, and the names that vLLM knows.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from typing import Any


def main() -> None:
    asked = json.load(sys.stdin)
    sys.argv.append("--help")  # only then does vLLM give its options their help, which announces removals
    from vllm import __version__, envs
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser()
    ServeSubcommand().subparser_init(parser.add_subparsers(dest="subparser"))
    refused = []
    for words in asked["commands"]:
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                parser.parse_args(words)
        except (SystemExit, Exception) as problem:
            refused.append({"words": words, "problem": (said.getvalue()[-300:] or repr(problem))})
    serve = parser._subparsers._group_actions[0].choices["serve"]
    options = sorted(option for action in serve._actions for option in action.option_strings)
    lists = sorted(option for action in serve._actions if action.nargs == "+" for option in action.option_strings)
    choices = {
        option: action.choices for action in serve._actions if action.choices for option in action.option_strings
    }
    print(
        json.dumps(
            {
                "version": __version__,
                "refused": refused,
                "announced": announced(serve, asked["commands"]),
                "tools": sorted(ToolParserManager.list_registered()),
                "reasoning": sorted(ReasoningParserManager.list_registered()),
                "environments": sorted(envs.environment_variables),
                "options": options,
                "lists": lists,
                "ranks": [int(rank) for rank in choices["--max-lora-rank"]],
            }
        )
    )


ANNOUNCED = re.compile(r"deprecated|(will|to) be removed in", re.IGNORECASE)


def announced(serve: Any, commands: list[list[str]]) -> list[str]:
    """Return the options of the commands whose help announces their removal."""
    given = {"--" + re.split(r"[=.]", word[2:])[0].replace("_", "-") for words in commands for word in words}
    return sorted(
        option
        for action in serve._actions
        for option in given.intersection(action.option_strings)
        if ANNOUNCED.search((action.help or "").partition("\n\n")[0])
    )


if __name__ == "__main__":
    main()
