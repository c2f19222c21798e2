"""Find the verb that words name."""

from __future__ import annotations

from collections.abc import Iterable

from pi.cli.help import short_usage_of, summary, typed
from pi.cli.meanings import meant
from pi.cli.words import Usage
from pi.fabric_tasks import DEFAULTS, VERBS, task_named


def named_verb(words: list[str]) -> tuple[str, list[str]]:
    """Return the task named by the first word or two, and the words after it. Raises Usage."""
    if ".".join(words[:2]) in VERBS:
        return ".".join(words[:2]), words[2:]
    if default := DEFAULTS.get(words[0]):
        if len(words) > 1 and not words[1].startswith("-"):
            raise Usage(
                "unknown-verb",
                f"no verb {' '.join(words[:2])!r}{_suggestion(words)}",
                short_usage_of(default, task_named(default)),
            )
        return default, words[1:]
    if words[0] in VERBS and "." not in words[0]:
        return words[0], words[1:]
    if words[0].startswith("-"):
        raise Usage("option-first", f"{words[0]} comes before the verb", f"pi VERB {words[0]} ...")
    is_group = any(name.startswith(f"{words[0]}.") for name in VERBS)
    given = " ".join(words[:2] if is_group else words[:1])
    raise Usage("unknown-verb", f"no verb {given!r}{_suggestion(words)}", "pi VERB ...; pi --help lists the verbs")


def _suggestion(words: list[str]) -> str:
    if words[0].lower() in ("completion", "completions", "autocomplete"):
        return " (did you mean --install-completion?)"
    found = meant(words, map(typed, VERBS))
    return f" (did you mean {found!r}?)" if found else ""


def summaries(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return each task as it is typed, with the first line of its help."""
    return [(typed(name), summary(task_named(name))) for name in names]
