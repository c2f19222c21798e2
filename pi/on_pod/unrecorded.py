"""Models whose record is missing or damaged, found by the marks of their processes in /proc.

Every process of a model has PI_INSTANCE in its environment. Only processes of this account and of this home count.
"""

from __future__ import annotations

import os
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Set, cast

from pi.on_pod import process, record_check, records
from pi.on_pod.record_shapes import Record, Unrecorded

MARK = "PI_INSTANCE"

SETUP_MARK = "PI_MARK"
"""Processes of a setup have this variable too."""


class Model(NamedTuple):
    """A model without a valid record: by its instances and sessions, `living` finds its processes.

    `problem` says what is wrong with its record, empty if there is none; `known` are the valid fields.
    """

    name: str
    problem: str
    known: Dict[str, object]
    instances: FrozenSet[str]
    sessions: FrozenSet[int]


def living(model: Model, among: Optional[List[process.Living]] = None) -> List[int]:
    """Return the living processes of a model; `among` is an earlier look at all processes."""
    return process.members_of(model.sessions, model.instances, among)


def find(name: str) -> Optional[Model]:
    """Return the model of this name that has no valid record, or None."""
    return next((model for model in find_all() if model.name == name), None)


def find_all(among: Optional[List[process.Living]] = None) -> List[Model]:
    """Return every model whose record is damaged, and every one that runs without a record.

    `among` is an earlier look at all processes.
    """
    marked = _marked(among)  # before the records: a start writes its record before it launches
    valid, damaged = records.read_all()
    taken = {record["instance"] for record in valid}
    loose = {instance: pids for instance, pids in marked.items() if instance not in taken and any(map(_lives, pids))}
    models = []
    for record in damaged:
        own = record.known.get("instance")
        instances = {each for each, pids in loose.items() if each == own or _name(pids) == record.name}
        pids = [pid for each in instances for pid in loose.pop(each)]
        sessions = _sessions(pids)
        if "started" in record.known:  # else nothing tells its session from one that got the number later
            sessions |= {records.session_of(cast(Record, record.known))} - {records.NO_SESSION}
        if isinstance(own, str) and own not in taken:
            instances.add(own)
        models.append(Model(record.name, record.problem, record.known, frozenset(instances), frozenset(sessions)))
    names = {record["name"] for record in valid} | {model.name for model in models}
    for instance, pids in sorted(loose.items()):
        name = _name(pids)
        if not name or name in names:
            name = "%s-%s" % (name[:40] or "model", instance[:16])
        names.add(name)
        models.append(Model(name, "", {}, frozenset([instance]), frozenset(_sessions(pids))))
    return models


def _marked(among: Optional[List[process.Living]]) -> Dict[str, List[int]]:
    """Return the marked processes of this account and home, by instance."""
    home, found = os.path.expanduser("~"), {}  # type: str, Dict[str, List[int]]
    for pid in (each.pid for each in (process.living() if among is None else among) if each.instances):
        variables = process.environment(pid, MARK)
        instance = variables.get(MARK, "")
        if not record_check.INSTANCE.fullmatch(instance) or SETUP_MARK in variables or variables.get("HOME") != home:
            continue
        if process.is_own(pid) and _lives(pid):
            found.setdefault(instance, []).append(pid)
    return found


def _lives(pid: int) -> bool:
    fields = process.stat(pid)
    return fields is not None and fields[0] not in "ZX"


def _sessions(pids: List[int]) -> Set[int]:
    """Return the sessions that belong to a model alone: their leader is its launcher, marked, or has ended."""
    found = set()
    for pid in pids:
        fields = process.stat(pid)
        if fields and (fields[1] in pids or not _lives(fields[1]) or _launched(fields[1])):
            found.add(fields[1])
    return found


def _launched(pid: int) -> str:
    """Return the name of the deployment whose launcher this process is, or ""."""
    words = process.words(pid)
    folder, file_name = os.path.split(words[1] if len(words) > 1 else "")
    is_launcher = file_name == "launch.sh" and os.path.dirname(folder) == records.RUN
    return os.path.basename(folder) if is_launcher else ""


def _name(pids: List[int]) -> str:
    """Return the name of the deployment that these processes serve, by its launcher or its log, or ""."""
    for pid in pids:
        fields = process.stat(pid)
        folder, log = os.path.split(process.output(pid).replace(" (deleted)", ""))
        names = [_launched(fields[1]) if fields else "", log.split(".log")[0] if folder == records.LOGS else ""]
        for name in names:
            if record_check.NAME.fullmatch(name):
                return name
    return ""


def server(pids: List[int], sessions: FrozenSet[int]) -> Optional[int]:
    """Return the API server among a model's processes: the oldest that is not the launcher."""
    ages = {pid: fields[2] for pid in pids for fields in [process.stat(pid)] if fields}
    others = [pid for pid in ages if pid not in sessions] or list(ages)
    return min(others, key=lambda pid: ages[pid], default=None)


def described(model: Model, among: Optional[List[process.Living]] = None) -> Unrecorded:
    """Return what is known of a model; `among` is an earlier look at all processes."""
    pids = living(model, among) if model.instances or model.sessions else []
    words = process.words(server(pids, model.sessions) or 0)
    served = words[words.index("serve") + 1 :][:1] if "serve" in words else []
    port, name = model.known.get("port"), model.known.get("model")
    open_ports = sorted(process.ports_of(pids)) if pids else []
    return {
        "name": model.name,
        "problem": model.problem,
        "pids": pids,
        "model": name if isinstance(name, str) else next(filter(str.isprintable, served), None),
        "port": port if isinstance(port, int) else next(iter(open_ports), None),
        "gpus": cast(List[int], model.known.get("gpus", [])),
    }
