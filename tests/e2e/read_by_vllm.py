"""Run by the Python of an installed vLLM: reads what pi would give it, and says what vLLM makes of it.

stdin: {"commands": [[word, ...], ...], "environments": [name, ...]}; stdout, last line: what was refused
and the names that vLLM knows.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys


def main() -> None:
    asked = json.load(sys.stdin)
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
    actions = parser._subparsers._group_actions[0].choices["serve"]._actions
    options = sorted(option for action in actions for option in action.option_strings)
    lists = sorted(option for action in actions if action.nargs == "+" for option in action.option_strings)
    choices = {option: action.choices for action in actions if action.choices for option in action.option_strings}
    print(
        json.dumps(
            {
                "version": __version__,
                "refused": refused,
                "tools": sorted(ToolParserManager.list_registered()),
                "reasoning": sorted(ReasoningParserManager.list_registered()),
                "environments": sorted(envs.environment_variables),
                "options": options,
                "lists": lists,
                "ranks": [int(rank) for rank in choices["--max-lora-rank"]],
            }
        )
    )


if __name__ == "__main__":
    main()
