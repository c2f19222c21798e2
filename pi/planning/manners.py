"""How vLLM should serve a model outside the catalog: what it answers to, its parsers, its modes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pi.planning import families
from pi.planning.families import BASE, Families, Family
from pi.planning.model_card import ModelCard
from pi.vllm.arguments import Arguments

STOPS_THE_START = frozenset([
    "deepseek_v3", "deepseek_v31", "hy_v3", "hy_v4", "jamba", "lfm2", "llama3_json", "llama4_json", "mistral",
])  # fmt: skip
"""Tool parsers that stop the server if the tokenizer lacks their tokens (each constructed with such a tokenizer,
vLLM 0.32.0 and 0.33.0)."""

SWALLOWS = frozenset([
    "deepseek_r1", "deepseek_v4", "deepseek_v41", "ernie45", "glm45", "glm47", "granite_thinking_parser", "holo2",
    "hy_v4", "kimi_k2", "kimi_k3", "ling3", "mimo", "minicpmv", "minimax_m2", "nemotron_v3", "plamo3", "qwen3",
    "seed_oss", "step3", "step3p5", "step5",
])  # fmt: skip
"""Reasoning parsers that leave the answer empty if the model did not think (each given plain text, vLLM 0.32.0 and
0.33.0)."""

MARKED = (
    ("<arg_key>", "glm45"),
    ("<function=", "qwen3_coder"),
    ("<|tool_calls_section_begin|>", "kimi_k2"),
    ("<minimax:tool_call>", "minimax_m2"),
    ("<|tool_call_start|>", "lfm2"),
    ("[TOOL_CALLS]", "mistral"),
    ("<|python_tag|>", "llama3_json"),
    ("<tool_call>", "hermes"),
)
"""Tool parsers by a text in the chat template; the most specific comes first."""


FORMATTED = frozenset(["openai", "deepseek_v4", "deepseek_v41", "kimi_k3"])
"""Tool parsers of models whose chats vLLM formats without a template in the repository."""

ENDINGS = (
    ("ForSequenceClassification", "classify"),
    ("ForTokenClassification", "classify"),
    ("RewardModel", "reward"),
    ("ForRewardModeling", "reward"),
    ("EmbeddingModel", "embedding"),
    ("ForTextEncoding", "embedding"),
)
"""What a model answers to, by the end of its architecture (`_SUFFIX_TO_DEFAULTS` in vLLM's config/model.py)."""

POOLING = frozenset(["embedding", "rerank", "classify", "reward"])
"""What vLLM's pooling runner answers to."""

MODES = ("--tokenizer-mode", "--config-format", "--load-format")
"""Options that select Mistral's own format."""


@dataclass(frozen=True)
class Manners:
    """How vLLM should serve a model.

    `kind` is chat, completions, embedding, rerank, classify, reward, transcription or unsupported. `found` says what
    decided: the name, a base model, the files. `code` means that vLLM may run Python code of the repository. `notes`
    are sentences for the plan's warnings.
    """

    kind: str = "chat"
    family: Family | None = None
    found: str = ""
    tools: str | None = None
    reasoning: str | None = None
    args: Arguments = field(default_factory=Arguments)
    packages: tuple[str, ...] = ()
    code: bool = False
    notes: tuple[str, ...] = ()


def manners(model: str, card: ModelCard, known: Families | None = None) -> Manners:
    """Return how vLLM should serve a model, by its name and what its files say.

    The first of these that knows the model decides: its name, the names of the models that it was made from,
    `model_type`, the chat template, the architecture. Only a name gives a parser that can stop the server or empty
    the answers.
    """
    known = known or families.load()
    family, found = _by_name(model, card, known)
    if family is None:
        made = _by_files(card, known)
    else:
        tools, notes = _tools(family, model, card)
        made = Manners(family.kind, family, found, tools, _reasoning(family, card), notes=notes)
    return _with_modes(_with_kind(made, model, card), model, card)


def _by_name(model: str, card: ModelCard, known: Families) -> tuple[Family | None, str]:
    """Return the family of the id, or else of a model that it was made from."""
    family = known.named(families.repository_name(model))
    if family is not None and not known.contradicts(family, card.architectures):
        return family, "its name"
    for origin in card.base_models:
        family = known.named(origin)
        if family is not None and family.name != BASE and not known.contradicts(family, card.architectures):
            return family, f"its base model {origin}"
    return None, ""


def _by_files(card: ModelCard, known: Families) -> Manners:
    """Return what the chat template shows, else the harmless parser of the network's first family."""
    family, found = known.of_type(card.model_type or ""), f"its model_type {card.model_type}"
    architecture = next((name for name in card.architectures if known.of_architecture(name)), "")
    if family is None and architecture:
        family, found = known.of_architecture(architecture), f"its architecture {architecture}"
    if card.template is not None:
        return Manners(family.kind if family else "chat", family, "its chat template", _shown(card.template))
    if family is None:
        return Manners()
    harmless = family.tools not in STOPS_THE_START and not family.needs_template
    return Manners(family.kind, family, found, family.tools if harmless else None)


def _tools(family: Family, model: str, card: ModelCard) -> tuple[str | None, tuple[str, ...]]:
    """Return a family's tool parser, unless the repository's template has no tools, and a note on it."""
    if family.tools is None:
        return None, ()
    if family.needs_template:
        return None, (
            f"no tools: its family needs {family.template} from vLLM's examples, which no package of vLLM contains;"
            f" to use it: --set chat-template=PATH --set tool-call-parser={family.tools} --set enable-auto-tool-choice",
        )
    if card.template is not None and not _has_own_format(family, model, card) and "tools" not in card.template:
        return None, ("no tools: its chat template does not mention them",)
    if family.confidence in ("likely", "disputed"):
        return family.tools, (f"the {family.tools} parser for its tool calls is {family.confidence}, not documented",)
    return family.tools, ()


def _reasoning(family: Family, card: ModelCard) -> str | None:
    """Return a family's reasoning parser, unless the repository's template shows that the model does not think."""
    if family.reasoning in SWALLOWS and card.template and "think" not in card.template:
        return None
    return family.reasoning


def _shown(template: frozenset[str]) -> str | None:
    """Return the tool parser for the marks of a chat template."""
    return next((parser for mark, parser in MARKED if mark in template), None) if "tools" in template else None


def _with_kind(made: Manners, model: str, card: ModelCard) -> Manners:
    """Correct what a model answers to by its files: a network for chats may be trained for something else."""
    kind = made.kind
    if kind == "chat":
        kind = "embedding" if card.pooling else _kind_of(card)
    if kind == "chat" and _only_completes(made.family, model, card):
        kind = "completions"
    return made if kind == "chat" else replace(made, kind=kind, tools=None, reasoning=None, notes=())


def _kind_of(card: ModelCard) -> str:
    """Return what a network answers to by its architecture."""
    for architecture in card.architectures:
        for ending, kind in ENDINGS:
            if architecture.endswith(ending):
                return "rerank" if kind == "classify" and card.labels == 1 else kind
    return "chat"


def _only_completes(family: Family | None, model: str, card: ModelCard) -> bool:
    """Return whether a model has no format for chats."""
    if card.template is None:
        return family is not None and family.name == BASE
    return "template" not in card.template and not (family and _has_own_format(family, model, card))


def _has_own_format(family: Family, model: str, card: ModelCard) -> bool:
    """Return whether vLLM formats a family's chats without a template in the repository."""
    if _is_mistral(family):
        return _has_mistral_files(model, card)
    return "--tokenizer-mode" in family.args or family.tools in FORMATTED


def _with_modes(made: Manners, model: str, card: ModelCard) -> Manners:
    """Add the arguments of the family that fit the repository's files, packages, and the decision on its code."""
    family = made.family
    args = family.args if family else Arguments()
    if family and _is_mistral(family) and not (made.found == "its name" and _has_mistral_files(model, card)):
        args = _without(args, MODES)
    if family and card.architectures and not set(card.architectures) & set(family.overrides):
        args = _without(args, ("--hf-overrides",))
    if made.kind in POOLING:
        args = args.set("--runner", "pooling")
    if family is None:
        return replace(made, args=args)
    code, note = _code(model, family)
    return replace(made, args=args, packages=family.packages, code=code, notes=made.notes + note)


def _is_mistral(family: Family) -> bool:
    return family.args.get("--tokenizer-mode") == "mistral"


def _has_mistral_files(model: str, card: ModelCard) -> bool:
    """Return whether a repository has weights in Mistral's format; only Mistral's own do if the files are unknown."""
    return model.lower().startswith("mistralai/") if card.consolidated is None else card.consolidated


def _without(args: Arguments, options: tuple[str, ...]) -> Arguments:
    return Arguments(tuple(item for item in args.items if item.name not in options))


def _code(model: str, family: Family) -> tuple[bool, tuple[str, ...]]:
    """Return whether vLLM may run Python code of the repository, and a note if it may not."""
    if family.owners is None:
        return False, ()
    if model.partition("/")[0].lower() in map(str.lower, family.owners):
        return True, ()
    owners = " or ".join(family.owners) or "its owner"
    return False, (
        f"its family may need Python code of the repository, which pi runs only for {owners};"
        " if you trust this one: --set trust-remote-code",
    )
