"""Run by the Python of an installed vLLM: reads what pi would give it, and says what vLLM makes of it.

stdin: {"commands": [[word, ...], ...], "environments": [name, ...]}; stdout, last line: what was refused
the removals that it announced, and the names that vLLM knows.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import warnings
from collections.abc import Iterator


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
    announced: set[str] = set()
    for words in asked["commands"]:
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said), warned(announced):
                parser.parse_args(words)
        except (SystemExit, Exception) as problem:
            refused.append({"words": words, "problem": (said.getvalue()[-300:] or repr(problem))})
    options = sorted(
        option
        for action in parser._subparsers._group_actions[0].choices["serve"]._actions
        for option in action.option_strings
    )
    print(
        json.dumps(
            {
                "version": __version__,
                "refused": refused,
                "announced": sorted(announced),
                "tools": sorted(ToolParserManager.list_registered()),
                "reasoning": sorted(ReasoningParserManager.list_registered()),
                "environments": sorted(envs.environment_variables),
                "options": options,
            }
        )
    )


@contextlib.contextmanager
def warned(announced: set[str]) -> Iterator[None]:
    """Collect the warnings of a block that announce a removal."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    announced |= {str(warning.message) for warning in caught if "removed" in str(warning.message)}


if __name__ == "__main__":
    main()
