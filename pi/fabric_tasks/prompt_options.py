"""The options of `pi prompt`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pi.errors import InputError
from pi.fabric_tasks.flags import choice, flag, operand, switch
from pi.fabric_tasks.options import PodOptions
from pi.prompt.conversation import Options as Conversation

DAY_SECONDS = 24 * 60 * 60
"""The longest --idle-timeout; sockets take no more than some days."""


@dataclass(frozen=True)
class PromptOptions(PodOptions):
    name: str | None = operand("NAME", "which model", completes="name")
    message: tuple[str, ...] = operand(
        '["message"...|-]', "one or more messages; - reads standard input", takes_rest=True
    )
    continue_: bool = switch("continue the last conversation of this directory")
    json: bool = switch("print one JSON event a line on stdout, and nothing else")
    quiet: bool = switch("print only the final text", excludes="--json", short="-q")
    no_tools: bool = switch("offer the model no tools")
    tool_choice: str = choice(("auto", "none", "required"), "whether the model may or must call tools", "auto")
    system: str | None = flag("TEXT", "system message, replacing pi's own")
    api: str | None = choice(("chat", "responses"), "API to call: Chat Completions or Responses")
    max_rounds: int = flag("N", "how many times the model may call tools before it must answer", 50)
    allow_outside: bool = switch("let the tools read outside this directory")
    temperature: str | None = flag("T", "0 for the likeliest answer (default: the model's own)")
    max_tokens: int = flag("N", "longest answer, in tokens", 0)
    idle_timeout: int = flag("SECONDS", "give up an answer that pauses this long (default: 60)", 60)
    sessions: bool = switch("list saved conversations")
    base_url: str | None = flag(
        "URL", "use this endpoint instead of a pod, such as http://127.0.0.1:8000/v1", excludes="--pod"
    )
    model: str | None = flag("ID", "model id at that endpoint", required=True, requires="--base-url")
    api_key_env: str | None = flag(
        "VAR", "environment variable with that endpoint's key (default: OPENAI_API_KEY)", requires="--base-url"
    )

    def conversation(self) -> Conversation:
        """Return how to hold the conversation. Raises InputError if a value cannot be used."""
        if self.no_tools and self.tool_choice == "required":
            raise InputError(
                "flags-conflict", "--no-tools and --tool-choice required cannot be used together", "remove one of them"
            )
        if self.max_tokens < 0:
            raise InputError(
                "max-tokens-invalid",
                f"invalid --max-tokens {self.max_tokens}",
                "use 1 or more; 0 leaves it to the server",
            )
        if not 1 <= self.idle_timeout <= DAY_SECONDS:
            raise InputError(
                "idle-timeout-invalid", f"invalid --idle-timeout {self.idle_timeout}", f"use 1 to {DAY_SECONDS} seconds"
            )
        return Conversation(
            tools=not self.no_tools,
            tool_choice=self.tool_choice,
            system=self.system,
            allow_outside=self.allow_outside,
            max_rounds=self.max_rounds,
            output="json" if self.json else "quiet" if self.quiet else "terminal",
            continue_last=self.continue_,
            temperature=_number("--temperature", self.temperature) if self.temperature else None,
            max_tokens=self.max_tokens or None,
            idle_seconds=self.idle_timeout,
        )


def _number(flag: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise InputError("flag-invalid", f"invalid {flag} {text!r}", "use a number of 0 or more, such as 0.7")
    return number
