"""What the processes of a deployment do: their states, and the stacks of those that run Python."""

from __future__ import annotations

import os
from typing import List

from pi.on_pod import process, records, stack
from pi.on_pod.events import ProcessDetail
from pi.on_pod.record_shapes import Record

MOST_PROCESSES = 16

WATCHERS = ("/pi_idle.py", "/pi_link.py", "/pi_watch.py")


def of(record: Record) -> List[ProcessDetail]:
    """Return what each process of a deployment does now, without its launcher and the launcher's own programs."""
    living = [pid for pid in records.living(record) if pid != record.get("session") and not _is_watcher(pid)]
    return [_described(record, pid) for pid in sorted(living)[:MOST_PROCESSES]]


def _is_watcher(pid: int) -> bool:
    return any(word.endswith(WATCHERS) for word in process.words(pid))


def without_stack(pid: int) -> ProcessDetail:
    """Return the name and the state of a process."""
    return _detail(stack.of(pid, "", ""))


def _described(record: Record, pid: int) -> ProcessDetail:
    py_spy = os.path.expanduser("~/%s/bin/py-spy" % record.get("venv", "venv"))
    return _detail(stack.of(pid, py_spy, os.path.join(records.folder(record["name"]), "stacks")))


def _detail(doing: stack.Doing) -> ProcessDetail:
    return {"pid": doing.pid, "program": doing.program, "state": doing.state, "stack": doing.stack}
