"""Run by the Python of an installed vLLM: streams what models write, as its server would.

stdin: {"name": {"text": ..., "markers": [...], "tools": parser or null, "reasoning": parser or null,
"template": {...}, "opening": ..., "model_type": ..., "finish": ...}, ...}; stdout, last line: {"name": stream}.

vLLM's generator of streamed chat completions and its parsers are real. In place of the engine stands the text,
piece by piece, in place of the model's tokenizer one of bytes that knows the markers as tokens of their own; for
GPT-OSS the real one, whose vocabulary is in the folder that TIKTOKEN_ENCODINGS_BASE names.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

END = "<|end|>"
"""The token that ends an answer; it has no text of its own."""

TOOLS = {
    "read": {"file_path": {"type": "string"}, "limit": {"type": "integer"}},
    "ls": {"path": {"type": "string"}},
    "rg": {"args": {"type": "string"}},
    "glob": {"pattern": {"type": "string"}},
}


def main() -> None:
    asked = json.load(sys.stdin)
    print(json.dumps({name: asyncio.run(spoken(dialect)) for name, dialect in asked.items()}))


async def spoken(dialect: dict[str, Any]) -> str:
    """The stream of one answer, from its first event to `[DONE]`."""
    from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata

    tokenizer = tokenizer_of(dialect)
    stream = server_of(dialect, tokenizer).chat_completion_stream_generator(
        request_of(dialect),
        steps(dialect, tokenizer),
        "chatcmpl-9f6c0b5e",
        "m",
        [{"role": "user", "content": "x"}],
        tokenizer,
        RequestResponseMetadata(request_id="r"),
        chat_template_kwargs=dialect["template"],
    )
    return "".join([event async for event in stream])


def server_of(dialect: dict[str, Any], tokenizer: Any) -> Any:
    """The part of the server that streams, made without the engine that it begins with otherwise."""
    from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
    from vllm.parser.parser_manager import ParserManager

    server = object.__new__(OpenAIServingChat)
    server.parser_cls = ParserManager.get_parser(
        tool_parser_name=dialect["tools"],
        reasoning_parser_name=dialect["reasoning"],
        enable_auto_tools=bool(dialect["tools"]),
        is_harmony=is_harmony(dialect),
        tokenizer=tokenizer,
    )
    kind = SimpleNamespace(model_type=dialect["model_type"])
    server.model_config = SimpleNamespace(hf_config=kind, hf_text_config=kind, hf_overrides=None, model="m")
    server.response_role = "assistant"
    server.system_fingerprint = server.request_logger = None
    for switch in (
        "_include_reasoning_tokens_details",
        "enable_force_include_usage",
        "enable_log_deltas",
        "enable_log_outputs",
        "enable_per_request_metrics",
        "enable_prompt_tokens_details",
    ):
        setattr(server, switch, False)
    return server


def request_of(dialect: dict[str, Any]) -> Any:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    tools = [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}
        for name, properties in TOOLS.items()
    ]
    return ChatCompletionRequest(
        model="m",
        messages=[{"role": "user", "content": "x"}],
        stream=True,
        stream_options={"include_usage": True},
        chat_template_kwargs=dialect["template"],
        **({"tools": tools, "tool_choice": "auto"} if dialect["tools"] else {}),
    )


async def steps(dialect: dict[str, Any], tokenizer: Any) -> AsyncIterator[Any]:
    """What the engine would bring, step by step."""
    prompt = [] if is_harmony(dialect) else tokenizer.encode("x" + dialect["opening"])
    brought = list(pieces(dialect, tokenizer))
    for left, (text, tokens) in zip(range(len(brought) - 1, -1, -1), brought, strict=True):
        output = SimpleNamespace(
            index=0,
            text=text,
            token_ids=tokens,
            logprobs=None,
            finish_reason=None if left else dialect["finish"],
            stop_reason=None,
            spec_decode_metrics=None,
        )
        yield SimpleNamespace(
            prompt=None,
            prompt_token_ids=prompt,
            encoder_prompt_token_ids=None,
            num_cached_tokens=0,
            num_cache_creation_tokens=None,
            metrics=None,
            outputs=[output],
        )


def pieces(dialect: dict[str, Any], tokenizer: Any) -> Iterator[tuple[str, list[int]]]:
    """The text in pieces as large as tokens are, each with its tokens; markers and words are whole."""
    if is_harmony(dialect):
        for token in tokenizer.encode(dialect["text"], allowed_special="all"):
            yield tokenizer.decode([token]), [token]
        return
    kinds = [*map(re.escape, dialect["markers"]), r"\s?\w{1,6}", r"\s", r"[^\w\s]"]
    for piece in re.findall("|".join(kinds), dialect["text"]):
        yield piece, tokenizer.encode(piece)
    if dialect["finish"] == "stop":
        yield "", tokenizer.encode(END)


def tokenizer_of(dialect: dict[str, Any]) -> Any:
    if is_harmony(dialect):
        from vllm.entrypoints.openai.parser.harmony_utils import get_encoding

        return get_encoding()
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytewise.decoder = decoders.ByteLevel()
    bytewise.add_tokens([AddedToken(marker, normalized=False) for marker in (END, *dialect["markers"])])
    return PreTrainedTokenizerFast(tokenizer_object=bytewise)


def is_harmony(dialect: dict[str, Any]) -> bool:
    return bool(dialect["model_type"] == "gpt_oss")


if __name__ == "__main__":
    main()
