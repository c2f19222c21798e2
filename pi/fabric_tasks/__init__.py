"""The verbs of pi as Invoke tasks: for `pi`, `inv` and a fabfile (`fab -H root@host pi.list`)."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from invoke import Collection

from pi.fabric_tasks.verb import Verb

VERBS = {
    "pods.list": "pods:list_pods",
    "pods.check": "check:check_machine",
    "pods.setup": "setup:setup",
    "pods.import": "import_pods:import_pods",
    "pods.active": "active:active",
    "pods.address": "address:address",
    "pods.rename": "rename:rename",
    "pods.remove": "remove:remove",
    "start": "start:start",
    "plan": "plan:plan",
    "models": "models:models",
    "pull": "pull:pull",
    "cache.list": "cache:list_cache",
    "cache.rm": "cache_rm:remove",
    "list": "list:list_models",
    "scale": "scale:scale",
    "stop": "stop:stop",
    "restart": "restart:restart",
    "move": "move:move",
    "up": "up:up",
    "down": "down:down",
    "export": "export:export",
    "wait": "wait:wait",
    "top": "top:top",
    "bench": "bench:bench",
    "logs": "logs:logs",
    "env": "env:env",
    "connect": "connect:connect",
    "explain": "explain:explain_log",
    "prompt": "prompt:prompt",
    "tunnel": "tunnel:tunnel",
    "door.run": "door:run",
    "door.status": "door:status",
    "door.stop": "door:stop",
    "key.show": "key:show",
    "key.add": "key:add",
    "key.list": "key:list_keys",
    "key.revoke": "key:revoke",
    "shell": "shell:shell",
    "ssh": "ssh:ssh",
    "doctor": "doctor:doctor",
    "audit": "audit:audit",
}
"""Each task as "module:function" of this package, in the order of `pi --help`."""

DEFAULTS = {"pods": "pods.list", "cache": "cache.list", "door": "door.run"}
"""The task that runs if only a group's name is typed."""


def task_named(name: str) -> Verb:
    """Import a verb's module and return its task. Raises KeyError if VERBS lacks the name."""
    module, _, function = VERBS[name].partition(":")
    task: Verb = getattr(import_module(f"{__name__}.{module}"), function)
    return task


def namespace(names: Iterable[str] = VERBS) -> Collection:
    """Return these tasks (default: all) as a collection named `pi`. Only their modules are imported."""
    collection, groups = Collection("pi"), dict[str, Collection]()
    for name in names:
        group, _, _ = name.rpartition(".")
        if group and group not in groups:
            groups[group] = Collection(group)
            collection.add_collection(groups[group])
        target = groups[group] if group else collection
        target.add_task(task_named(name), default=DEFAULTS.get(group) == name)
    return collection
