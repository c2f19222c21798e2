"""What pi tells the user about a model whose output its server does not read."""

from __future__ import annotations

from pi.prompt.endpoint import Endpoint
from pi.prompt.inline_thinking import PARSERS, Splitter
from pi.prompt.markup import TextCall
from pi.text import one_line

USUAL_REASONING_PARSER = "deepseek_r1"
"""Reads any `<think>...</think>`, also without the first tag."""


def no_tool_parser(endpoint: Endpoint) -> str:
    command = endpoint.with_tool_parser(endpoint.parsers()[0])
    return f"this model has no tool parser, so it answers without tools (to add one: {command})"


def text_call(endpoint: Endpoint, call: TextCall) -> str:
    """Describe a tool call that stayed text, with the command that starts the model with a parser for it."""
    of_family = endpoint.parsers()[0]
    likely = of_family if of_family in call.parsers else next(iter(call.parsers), of_family)
    name = f" of {one_line(call.name, 40)}" if call.name else ""
    reads = f"the parser {likely} reads it" if likely in call.parsers else "none of vLLM's parsers reads this form"
    return (
        f"the model wrote a tool call{name} as text, so pi did not run it: {reads}; "
        f"to start the model with a parser: {endpoint.with_tool_parser(likely)}"
    )


def inline_thinking(endpoint: Endpoint, inline: Splitter) -> str:
    """Describe thinking inside the text, with the command that starts the model with a reasoning parser."""
    end = inline.end or ""
    parser = PARSERS.get(end) or endpoint.parsers()[1] or USUAL_REASONING_PARSER
    return (
        "the model wrote its thinking into the text, and pi separated it; "
        f"to let the server do that: {endpoint.started_with(reasoning_parser=parser)}"
    )


def text_was_thinking(end: str) -> str:
    """Say where thinking ended, if pi had no way to know that it was thinking."""
    return f"the text before this was thinking, not the answer: its end {end} came without a beginning"
