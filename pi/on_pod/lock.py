"""The pod's locks: files in ~/.pi that one call at a time locks, with its name for those who wait."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
import time
from typing import Iterator

from pi.on_pod import process, reading, records
from pi.on_pod.pace import paced
from pi.on_pod.wire import PodError, Wire

LOST_PATIENCE_S = 5
"""Seconds after a lost connection in which a call must give up the lock; the program ends itself then."""

HOLDER_BYTES = 300


@contextlib.contextmanager
def locked(wire: Wire, patience_s: float = 60) -> Iterator[None]:
    """Hold the pod's lock, under which pi chooses a port, GPUs and a name. The kernel frees it if its holder dies.

    Waits up to `patience_s` for each holder, one after the other. Raises PodError after that. A holder whose pi is
    gone ends within seconds, even if it waits for storage that does not answer.
    """
    os.makedirs(records.HOME, mode=0o700, exist_ok=True)
    with opened("lock") as descriptor:
        current, since = "", time.monotonic()
        while not take(wire, descriptor):
            wire.check_cancelled()
            found = holder(descriptor)
            if found != current:
                current, since = found, time.monotonic()
            elif time.monotonic() - since > patience_s:
                raise PodError("locked", "%s has held this pod's lock for %d s" % (current, patience_s))
            time.sleep(0.05)
        is_done = threading.Event()
        threading.Thread(target=_end_if_lost, args=(wire, is_done), daemon=True).start()
        try:
            yield
        finally:
            is_done.set()


@contextlib.contextmanager
def opened(name: str) -> Iterator[int]:
    """Open a lock file below ~/.pi. Closing it frees the lock. Raises PodError if its name has another kind of file."""
    try:
        path = os.path.join(records.HOME, name)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in reading.FULL:
            raise
        raise _unfit(name, (error.strerror or "unknown error").lower()) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _unfit(name, "it is not a file")
        yield descriptor
    finally:
        os.close(descriptor)


def _unfit(name: str, problem: str) -> PodError:
    return PodError("damaged", "cannot use ~/.pi/%s on the pod: %s" % (name, problem), name=name)


def take(wire: Wire, descriptor: int) -> bool:
    """Lock a file and write who has it. Return False if another call has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    with contextlib.suppress(OSError):  # a full disk: others wait without a name
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, ("pid %d on the pod, for %s," % (os.getpid(), wire.who)).encode(), 0)
    return True


def holder(descriptor: int) -> str:
    """Return who has a lock, such as "pid 77 on the pod, for ann@laptop,".

    The kernel knows better than the file: a process that is not pi's writes no name.
    """
    noted = os.pread(descriptor, HOLDER_BYTES, 0).decode("utf-8", "replace")
    pid = process.lock_holder({os.fstat(descriptor).st_ino})
    if pid and not noted.startswith("pid %d " % pid):
        return "%s on the pod" % process.described(pid)
    return noted or "another pi"


def _end_if_lost(wire: Wire, is_done: threading.Event) -> None:
    """End the program if its pi is gone and it still holds the lock after a while: it may wait for a dead mount."""
    while not is_done.wait(0.2):
        if wire.lost.is_set():
            if not is_done.wait(paced(LOST_PATIENCE_S)):
                os._exit(1)
            return
