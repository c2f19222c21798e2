"""The verbs of pi as Invoke tasks: for `pi`, for `inv`, and for a fabfile (`fab -H root@host pi.list`)."""

from __future__ import annotations

from invoke import Collection


def namespace() -> Collection:
    """All tasks, as pi's command line names them."""
    from pi.fabric_tasks import audit, catalog, models, pods, prompt

    return Collection(
        "pi",
        Collection("pods", pods.show, pods.setup, pods.active, pods.remove),
        models.start,
        models.plan,
        catalog.models,
        models.show,
        models.stop,
        models.logs,
        prompt.prompt,
        audit.audit,
    )
