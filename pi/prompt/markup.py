"""Recognise a tool call that a server left as text, and vLLM's parser that would have read it.

Marks and parsers: vLLM 0.33, vllm/tool_parsers and vllm/parser.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from itertools import islice

_NAME = r"(?:functions?[.:])?([A-Za-z_][\w.-]*)"
_OBJECT = (
    r"\{\s*(?:\"(?:type|id)\"\s*:\s*\"[^\"]*\"\s*,\s*)*(?:\"function\"\s*:\s*\{\s*)?"
    rf"\"(?:name|tool|tool_name|function|action)\"\s*:\s*\"{_NAME}\""
)


_WITH_ARGUMENTS = (
    r"(?=(?:(?!\"description\")[^{}]){0,200}\"(?:arguments|parameters|args|input|\w{1,12}_input|params|kwargs)\"|\s*\})"
)
"""After the name in an object that may also be an example, such as a package.json or the description of a tool."""


@dataclass(frozen=True)
class TextCall:
    """A tool call in a text: the tool's name if it is readable, and parsers that read this markup.

    The first parser is the most likely. Without parsers, none of vLLM reads it.
    """

    name: str
    parsers: tuple[str, ...]


@dataclass(frozen=True)
class _Mark:
    pattern: str
    parsers: tuple[str, ...]
    certain: bool
    """Whether it means a call even if the name is not one of the offered tools."""


def _mark(pattern: str, *parsers: str, certain: bool = True) -> _Mark:
    return _Mark(pattern, parsers, certain)


MARKS = (
    _mark(rf"<\|tool_calls_section_begin\|>|<\|tool_call_begin\|>\s*{_NAME}?", "kimi_k2"),
    _mark(rf"functions\.{_NAME}:\d+\s*<\|tool_call_argument_begin\|>", "kimi_k2"),
    _mark(rf"<\|open\|>(?:tools<\|sep\|>|call tool=\"{_NAME}\")", "kimi_k3"),
    _mark(
        rf"(?:\]<\]minimax\[>\[|\[e~\[)<tool_call>(?:\s*(?:\]<\]minimax\[>\[)?<invoke name=\"{_NAME}\")?", "minimax_m3"
    ),
    _mark(rf"<minimax:tool_call>(?:\s*<invoke name=\"?{_NAME})?", "minimax_m2"),
    _mark(rf"to=functions\.{_NAME}(?=[\s<])|<\|channel\|>commentary to={_NAME}", "openai"),
    _mark(rf"<｜DSML｜function_calls>(?:\s*<｜DSML｜invoke name=\"{_NAME}\")?", "deepseek_v32"),
    _mark(rf"<｜DSML｜tool_calls>(?:\s*<｜DSML｜invoke name=\"{_NAME}\")?", "deepseek_v4"),
    _mark(rf"<｜DSML｜(?:toolcalls|tool)>(?:\s*<｜DSML｜\w+ name=\"{_NAME}\")?|<｜DSML｜invoke", "deepseek_v41"),
    _mark(rf"<｜tool▁call▁begin｜>\s*(?:function|code)?<｜tool▁sep｜>{_NAME}\s*\n", "deepseek_v3"),
    _mark(rf"<｜tool▁call▁begin｜>\s*{_NAME}<｜tool▁sep｜>", "deepseek_v31"),
    _mark(r"<｜tool▁calls?▁begin｜>", "deepseek_v3", "deepseek_v31"),
    _mark(rf"<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name=\"{_NAME}\"", "step3"),
    _mark(r"<｜tool_calls?_begin｜>", "step3"),
    _mark(rf"<\|tool▁calls?▁begin\|>(?:.{{0,60}}<\|tool▁sep\|>{_NAME})?"),
    _mark(rf"<seed:tool_call>(?:\s*<function={_NAME})?", "seed_oss"),
    _mark(rf"<longcat_tool_call>(?:\s*{_NAME})?", "longcat"),
    _mark(rf"<ifm\|tool_calls?>(?:\s*{_NAME})?", "k2_horizon"),
    _mark(rf"<tool_calls?:[\w-]+>(?:\s*{_NAME})?", "hy_v3", "hy_v4"),
    _mark(rf"<tool_call>\s*{_NAME}\s*<tool_sep", "hy_v3", "hy_v4"),
    _mark(rf"<tool_call>\s*{_NAME}\s*(?:<arg_key>|</tool_call>)", "glm45", "glm47", "ling3", "poolside_v1"),
    _mark(rf"<function={_NAME}>(?!\s*\{{)", "qwen3_coder", "qwen3_xml", "step3p5", "mimo", "seed_oss"),
    _mark(rf"<tool_call>\s*\[?\s*{_OBJECT}", "hermes", "granite4", "ernie45", "xlam"),
    _mark(rf"<tool_call>\s*\{{[^<]{{0,4000}}\"name\"\s*:\s*\"{_NAME}\"", "hermes", "granite4"),
    _mark(rf"<tool_call>\s*<{_NAME}[ />]", "hermes", certain=False),
    _mark(rf"\[TOOL_CALLS\]\s*(?:\[?\s*{_OBJECT})", "mistral"),
    _mark(rf"\[TOOL_CALLS\]\s*(?:{_NAME}\s*(?:\[ARGS\]|\[CALL_ID\]|\{{))?", "mistral"),
    _mark(rf"<\|tool_call_start\|>\s*(?:\[?\s*{_NAME}\()?", "lfm2"),
    _mark(rf"<\|python_start\|>\s*(?:\[?\s*{_NAME}\()?", "llama4_pythonic"),
    _mark(rf"<\|python_tag\|>\s*(?:{_OBJECT}|{_NAME}\.call\()?", "llama3_json"),
    _mark(rf"<\|action_start\|>\s*<\|plugin\|>\s*(?:{_OBJECT})?", "internlm"),
    _mark(rf"<\|tool_call>\s*(?:call:)?{_NAME}?", "gemma4"),
    _mark(rf"<start_function_call>\s*(?:call:{_NAME})?", "functiongemma"),
    _mark(r"<\|START_ACTION\|>", "cohere_command3", "cohere_command4"),
    _mark(rf"<\|tool_call\|>\s*(?:\[\s*{_OBJECT})?", "granite"),
    _mark(rf"<function_call>\s*(?:{_OBJECT})", "granite-20b-fc"),
    _mark(r"<\|tools_prefix\|>", "apertus"),
    _mark(rf"<dots_function_call>(?:\s*<invoke name=\"?{_NAME})?", "dots"),
    _mark(rf"<atem:(?:function_calls|invoke)[ >](?:\s*<atem:invoke name=\"{_NAME}\")?", "muse_glimmer"),
    _mark(r"<\|plamo:begin_tool_requests?:plamo\|>", "plamo3"),
    _mark(r"<\|content_invoke_tool_(?:json|text)\|>", "inkling"),
    _mark(rf"(?:function call<\|role_sep\|>|<\|function_call\|>)\s*(?:{_OBJECT})?", "gigachat3"),
    _mark(rf"functools\[\s*{_OBJECT}", "phi4_mini_json"),
    _mark(rf"<tool_calls>\s*\[?\s*{_OBJECT}", "jamba", "hunyuan_a13b"),
    _mark(rf"<function_calls>\s*{_NAME}\(", "olmo3"),
    _mark(rf"<function name=\"{_NAME}\"", "minicpm5", certain=False),
    _mark(
        rf"```(?:(?:tool_code|tool_call)\s*\n\s*(?:print\()?\[?(?:default_api\.)?{_NAME}\("
        rf"|python\s*\n\s*(?:print\()?\[?(?:default_api\.)?{_NAME}\(\w+\s*=)",
        "pythonic",
        certain=False,
    ),
    _mark(rf"(?m)^\s*\[\s*{_NAME}\([^\n]*\)\s*\]\s*$", "pythonic", "llama4_pythonic", "olmo3", certain=False),
    _mark(rf"(?m)^\s*{_NAME}\(\w+\s*=[^\n]*\)\s*$", "olmo3", "pythonic", certain=False),
    _mark(rf"(?m)^\s*(?:```(?:json)?\s*)?\[\s*{_OBJECT}{_WITH_ARGUMENTS}", "xlam", certain=False),
    _mark(rf"```(?:json)?\s*{_OBJECT}{_WITH_ARGUMENTS}", "xlam", "hermes", "llama3_json", certain=False),
    _mark(rf"<tools?>\s*{_OBJECT}", "hermes", certain=False),
    _mark(rf"(?:^|\n)\s*{_OBJECT}{_WITH_ARGUMENTS}", "llama3_json", "hermes", certain=False),
    _mark(
        rf"(?:^|\n)\s*\{{\s*\"(?:arguments|parameters)\"\s*:\s*\{{[^\n]{{0,4000}}\"name\"\s*:\s*\"{_NAME}\"",
        "llama3_json",
        "hermes",
        certain=False,
    ),
    _mark(rf"\"tool_calls?\"\s*:\s*\[?\s*\{{[^\n\]]{{0,300}}?\"name\"\s*:\s*\"{_NAME}\"", certain=False),
    _mark(rf"(?m)^\s*TOOL_CALLS\s*\[\s*{_OBJECT}", "mistral", certain=False),
    _mark(rf"(?m)^\s*{_NAME}\s*<arg_key>", "glm45", "glm47", certain=False),
    _mark(rf"<function={_NAME}>\s*\{{", certain=False),
    _mark(rf"<(?:\w+:)?invoke name=\"?{_NAME}", "minimax_m2", certain=False),
    _mark(rf"<(?:tool_use|tool_call|use_tool|tool|call|action)\b[^>]{{0,200}}?\bname=[\"']?{_NAME}", certain=False),
    _mark(rf"<(?:tool_name|tool|name)>\s*{_NAME}\s*</", certain=False),
    _mark(rf"Action:\s*{_NAME}(?:\s*\n+\s*Action Input:|[(\[])", certain=False),
)
"""Marks of tool calls, the most specific first."""


SIGNS = (
    "<|", "<｜", "|>", "<tool", "<function", "<minimax:", "]minimax[", "<seed:", "<longcat", "<ifm|", "<invoke",
    ":invoke", "<atem:", "<dots_", "<start_function", "[TOOL_CALLS]", "functools[", "to=functions", '"name"',
    '"function"', '"tool', '"action"', "Action:", "<call", "<name>", "<action", "<use_tool", "<arg_key>", "TOOL_CALLS",
)  # fmt: skip
"""Parts of marks; a text without any, and without a tool's name before a bracket, contains no call."""


MATCHES = 20
"""Most places of a text that pi looks at for each mark."""


_SPACES = re.compile(r"\s{20,}")
"""White space that is cut short, so that the patterns take linear time."""


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def text_call(text: str, tools: Collection[str]) -> TextCall | None:
    """Return the tool call that a text contains, or None. `tools` are the offered tools.

    A mark in code that names another tool is only an example, so it does not count.
    """
    named = (words for tool in tools for words in (f"{tool}(", f"{tool}>", f"<{tool} "))
    if not any(sign in text for sign in (*SIGNS, *named)):
        return None
    text = _SPACES.sub(" \n ", text)
    for mark in MARKS:
        for match in islice(_compiled(mark.pattern).finditer(text), MATCHES):
            name = next(filter(None, match.groups()), "").rstrip(".")
            if name in tools or (mark.certain and not _in_code(text, match.start())):
                return TextCall(name, mark.parsers)
    return _element(text, tools)


def _element(text: str, tools: Collection[str]) -> TextCall | None:
    """Return a call written as an XML element with the name of a tool, such as `<ls><path>.</path></ls>`."""
    for name in tools:
        if re.search(rf'(?m)^\s*<{re.escape(name)}(?: \w{{1,30}}="[^"\n]*")+ ?/>', text) or re.search(
            rf"(?m)^\s*<{re.escape(name)}>\s*<\w+>[^<]*</\w+>\s*(?:<[^>]*>[^<]*){{0,40}}?</{re.escape(name)}>", text
        ):
            return TextCall(name, ())
    return None


def _in_code(text: str, position: int) -> bool:
    before = text[:position]
    line = before.rpartition("\n")[2]
    fences = len(re.findall(r"(?m)^\s*(?:```|~~~)", before))
    return fences % 2 == 1 or line.count("`") % 2 == 1
