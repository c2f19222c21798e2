"""`pi start`: start a model, or list the models that pi knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pi.fabric_tasks.start_options import StartOptions
from pi.fabric_tasks.verb import verb
from pi.steps import keys, replicas, together, where
from pi.steps.offers import chosen, show_offers
from pi.steps.plans import show_plans


@verb(
    StartOptions,
    remark="(alone: lists the models)",
    examples=(
        "pi start Qwen/Qwen3-Coder-30B-A3B-Instruct --name qwen",
        "pi start openai/gpt-oss-20b --name oss --memory 45% --context 64k",
        "pi start /models/mine --name mine --set max-num-seqs=64",
        "pi start moonshotai/Kimi-K2-Instruct --name kimi --across dc1,dc2",
    ),
)
def start(c: Any, options: StartOptions) -> None:
    """Start a model and wait until it answers; without MODEL, list the models pi knows."""
    if options == StartOptions(pod=options.pod):
        return show_offers(c, chosen(c, options.pod, False))
    wanted = replace(options.start(), asks=not options.yes)
    pod_name = options.pod or (wanted.across.pods[0] if wanted.across else None)
    if options.dry_run and wanted.across:
        with where.targeted(c, pod_name) as (pod, connection):
            return together.show(pod, connection, wanted, wanted.across)
    if options.dry_run:
        pods = where.Chosen((where.chosen(c, options.pod),), options.pod is not None)
        return show_plans(c, pods, wanted.request, options.private, upkeep=wanted.upkeep)
    key = keys.api_key()
    with where.targeted(c, pod_name) as (pod, connection):
        replicas.start(pod, connection, wanted, key)
