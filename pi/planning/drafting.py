"""Add speculative decoding to a plan."""

from __future__ import annotations

from dataclasses import replace

from pi.errors import InputError
from pi.planning.catalog import Variant
from pi.planning.drafts import Draft
from pi.planning.types import LaunchPlan, Request


def candidates(request: Request, variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
    """Return the checkpoints that may serve a request: with --draft, those that have one.

    Raises InputError if none has.
    """
    found = tuple(variant for variant in variants if variant.draft) if request.draft else variants
    if not found:
        raise unknown(request.model)
    return found


def drafted(plan: LaunchPlan, request: Request, variant: Variant, labels: frozenset[str]) -> LaunchPlan:
    """Return the plan with the draft's arguments, download and reason, if there is one to use.

    Raises InputError if the user wants one that does not work on this hardware.
    """
    draft = variant.drafting(request.draft, labels)
    if draft is None:
        if request.draft:
            raise unknown(f"{variant.id} on this hardware")
        return plan
    return replace(
        plan,
        args=draft.args_on(labels).over(plan.args),
        download_gb=None if plan.download_gb is None else plan.download_gb + draft.extra_gb,
        why=(*plan.why, reason(draft)),
    )


def reason(draft: Draft) -> str:
    """Describe what drafts, and when it pays."""
    source = draft.repository or f"its own {draft.method.upper()} head"
    tokens = f"{draft.tokens} tokens" if draft.tokens > 1 else "one token"
    off = "; --no-draft switches it off" if draft.default else ""
    return f"{source} drafts {tokens} at a time, which pays for up to {draft.good_up_to} requests at once{off}"


def unknown(what: str) -> InputError:
    """Return the error for --draft if the catalog knows no draft."""
    return InputError("no-draft", f"pi knows no draft for {what}", "remove --draft")
