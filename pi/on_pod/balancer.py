"""The HAProxy in front of a model's replicas: its replicas, its keys, and how each replica does.

Changes go to the running process through a private socket, and into `haproxy.cfg` for its next start.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import itertools
import os
import re
import socket
import time
from typing import Dict, Iterator, List, NamedTuple, Optional, Set

from pi.on_pod import lock, reading, records
from pi.on_pod.pace import paced
from pi.on_pod.record_shapes import Record
from pi.on_pod.scale_shapes import Elsewhere
from pi.on_pod.wire import PodError, Wire

CHECK = "check inter 500ms fall 2 rise 1"
"""A process that has ended refuses connections: two checks, so 1 s. One that hangs has `timeout check`, twice."""

AWAY_ID = 1000
"""HAProxy's id of the first server on another pod; those of replicas are below."""

CUT_OFF = " on-marked-down shutdown-sessions"
"""A pod that is cut off ends no connection: its requests would wait for hours."""

UP_S = 60
"""Time for a replica that is ready to pass a check; a busy machine answers late."""

ANSWER_S = 5

POLL_S = 0.1

NUMBER = re.compile(r".+\.([1-9][0-9]{0,2})")


class Server(NamedTuple):
    """How HAProxy sees a replica: a state such as UP, DOWN or DRAIN, the requests that it answers now, and its id.

    A new one is UP before its first check; `has_passed` says whether the last check was a success.
    """

    state: str
    requests: int
    id: int
    has_passed: bool


GONE = Server("gone", 0, 0, False)


def number(name: str) -> int:
    """Return the number in a replica's name, such as 3 of "qwen.3". It is HAProxy's id of the server."""
    found = NUMBER.fullmatch(name)
    return int(found[1]) if found else 0


def replicas(name: str) -> List[Record]:
    """Return the records of a model's replicas, in the order of their numbers."""
    own = [record for record in records.load_all() if record.get("replica_of") == name]
    return sorted(own, key=lambda record: number(record["name"]))


def write_files(record: Record, program: str, key: str) -> None:
    """Write what the launcher of a new endpoint reads, beside the files that pi sent."""
    host = "127.0.0.1" if record.get("private") else "0.0.0.0"
    records.write(record["name"], "bind", "%s:%d\n" % (host, record["port"]))
    records.write(record["name"], "program", program + "\n")
    records.write(record["name"], "keys", _lines(_hashes(record, key)))
    _write_config(record)


def join(wire: Wire, replica: Record) -> None:
    """Let a replica that is ready get requests. Returns when it has passed a check. Raises PodError."""
    name, own = replica["replica_of"], replica["name"]
    with _changed(name) as endpoint:
        if own in endpoint["replicas"]:  # an earlier one with its name, maybe on another port
            _remove(endpoint, own)
        _say(name, "add server replicas/%s 127.0.0.1:%d id %d %s" % (own, replica["port"], number(own), CHECK))
        _say(name, "enable health replicas/%s" % own)
        _say(name, "enable server replicas/%s" % own)
        endpoint["replicas"] = sorted({*endpoint["replicas"], own}, key=number)
        endpoint["model"], endpoint["context"] = replica["model"], replica.get("context")
        endpoint["api"], endpoint["adapters"] = replica.get("api", "chat"), replica.get("adapters", [])
    try:
        _await_up(wire, name, own)
    except BaseException:
        with contextlib.suppress(PodError), _changed(name) as endpoint:
            _remove(endpoint, own)
        raise


def _await_up(wire: Wire, name: str, own: str) -> None:
    deadline = time.monotonic() + paced(UP_S)
    while not (server := servers(name).get(own, GONE)).has_passed or server.state != "UP":
        wire.check_cancelled()
        if time.monotonic() > deadline:
            raise _trouble(name, "%s is ready, but HAProxy's check does not reach it" % own)
        time.sleep(POLL_S)


def leave(wire: Wire, name: str, own: str) -> None:
    """Take a replica out when its running requests have ended. A cancel lets it get requests again."""
    _drain(wire, name, own)
    with _changed(name) as endpoint:
        _remove(endpoint, own)


def link(wire: Wire, name: str, elsewhere: List[Elsewhere]) -> None:
    """Have an endpoint pass requests on to these other pods alone. Raises PodError if one passes no check.

    A pod at another address than before, or one that leaves, answers its requests first. The requests of others run on.
    """
    wanted = {each["pod"]: "%(pod)s %(address)s %(port)d %(replicas)d" % each for each in elsewhere}
    for own in _to_leave(records.load(name), wanted):
        _drain(wire, name, own)
    with _changed(name) as endpoint:
        leaving = _to_leave(endpoint, wanted)
        for own in leaving:
            _delete(name, own)
        kept = set(pods_of(endpoint)).difference(leaving).intersection(servers(name))
        for own, line in wanted.items():
            if own in kept:
                _say(name, "set server replicas/%s weight %s" % (own, line.split()[3]))
                _say(name, "set server replicas/%s state ready" % own)  # an earlier change may have failed halfway
                continue
            _delete(name, own)  # one of a change that failed halfway
            _say(name, "add server replicas/" + _away(line, _free_id(name)))
            _say(name, "enable health replicas/" + own)
            _say(name, "enable server replicas/" + own)
        endpoint["elsewhere"] = list(wanted.values())
    learn_keys()
    for own in wanted:
        try:
            _await_up(wire, name, own)
        except BaseException:
            if own not in kept:
                with contextlib.suppress(PodError):
                    unlink(name, own)
            raise


def unlink(name: str, pod: str) -> None:
    """Have an endpoint pass on no more requests to another pod. Those that run there break."""
    endpoint = records.load(name)
    if endpoint and records.is_endpoint(endpoint) and pod in pods_of(endpoint):
        with _changed(name) as changed:
            _delete(name, pod)
            changed["elsewhere"] = [each for each in changed.get("elsewhere", []) if each.split()[0] != pod]
        learn_keys()


def _to_leave(endpoint: Optional[Record], wanted: Dict[str, str]) -> List[str]:
    """Return the other pods behind an endpoint that are not at the same place in the wanted lines."""
    lines = endpoint.get("elsewhere", []) if endpoint else []
    kept = {line.rpartition(" ")[0] for line in wanted.values()}
    return [line.split()[0] for line in lines if line.rpartition(" ")[0] not in kept]


def pods_of(endpoint: Record) -> List[str]:
    """Return the other pods behind an endpoint, which are servers of this name."""
    return [each.split()[0] for each in endpoint.get("elsewhere", [])]


def _away(line: str, number: int) -> str:
    """Return the server of another pod, with this id. It gets the share of as many replicas as it has."""
    pod, address, port, count = line.split()
    host = "[%s]" % address if ":" in address else address
    return "%s %s:%s id %d weight %s %s" % (pod, host, port, number, count, CHECK + CUT_OFF)


def _free_id(name: str) -> int:
    taken = {server.id for server in servers(name).values()}
    return next(number for number in itertools.count(AWAY_ID) if number not in taken)


def drop(replica: Record) -> None:
    """Take a replica out at once, if it is behind an endpoint that runs."""
    endpoint = records.load(replica["replica_of"])
    if endpoint and records.is_endpoint(endpoint) and replica["name"] in endpoint["replicas"]:
        with contextlib.suppress(PodError), _changed(endpoint["name"]) as changed:
            _remove(changed, replica["name"])


def _drain(wire: Wire, name: str, own: str) -> None:
    """Wait until a server has answered its requests, without new ones. A cancel lets it get requests again."""
    if own not in servers(name):
        return
    try:
        _say(name, "set server replicas/%s state drain" % own)
        while requests := servers(name).get(own, GONE).requests:
            wire.check_cancelled()
            if wire.lost.is_set():
                raise PodError("lost", "pi disconnected")
            count = "1 request" if requests == 1 else "%d requests" % requests
            wire.progress("%s still answers %s (Ctrl+C keeps it)" % (own, count))
            time.sleep(POLL_S)
    except BaseException:
        with contextlib.suppress(PodError):
            _say(name, "set server replicas/%s state ready" % own)
        raise


def _remove(endpoint: Record, own: str) -> None:
    _delete(endpoint["name"], own)
    endpoint["replicas"] = [each for each in endpoint["replicas"] if each != own]


def _delete(name: str, own: str) -> None:
    if own in servers(name):
        _say(name, "set server replicas/%s state maint" % own)
        deadline = time.monotonic() + ANSWER_S
        while True:  # connections that end just now keep a server for moments
            try:
                _say(name, "del server replicas/%s" % own)
                break
            except PodError:
                if time.monotonic() > deadline:
                    _say(name, "set server replicas/%s state ready" % own)
                    raise
                time.sleep(POLL_S)


@contextlib.contextmanager
def _changed(name: str) -> Iterator[Record]:
    """Yield the endpoint's record under its lock, and save it with the configuration that follows from it."""
    with lock.opened("run/%s/lock" % name) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        record = records.load(name)
        if record is None or not records.is_endpoint(record) or not records.is_running(record):
            raise _trouble(name, "the HAProxy of %s does not run" % name)
        yield record
        _write_config(record)
        records.save(record)


def _write_config(record: Record) -> None:
    """Write the configuration with which HAProxy starts: what pi sent, and the replicas."""
    name = record["name"]
    ports = {each["name"]: each["port"] for each in replicas(name)}
    lines = [
        "    server %s 127.0.0.1:%d id %d %s\n" % (own, ports[own], number(own), CHECK)
        for own in record["replicas"]
        if own in ports
    ]
    away = enumerate(record.get("elsewhere", []), AWAY_ID)
    lines += ["    server %s\n" % _away(line, number) for number, line in away]
    head = reading.text(os.path.join(records.folder(name), "haproxy.head"))
    records.write(name, "haproxy.cfg", head + "".join(lines))


def servers(name: str) -> Dict[str, Server]:
    """Return how HAProxy sees each replica; nothing if it does not answer."""
    try:
        text = _ask(name, "show stat replicas 4 -1")  # the servers of this backend
    except OSError:
        return {}
    found = {}
    for row in csv.DictReader(text.lstrip("# ").splitlines()):
        requests, id = row.get("scur") or "", row.get("sid") or ""
        if row.get("status") and requests.isdecimal() and id.isdecimal():
            has_passed = (row.get("check_status") or "").endswith("L7OK")  # "* L7OK" while the next one runs
            found[row["svname"]] = Server(row["status"].split(" ")[0], int(requests), int(id), has_passed)
    return found


def learn_keys() -> None:
    """Give each endpoint of the pod the present keys."""
    for record in filter(records.is_endpoint, records.load_all()):
        name, wanted = record["name"], _hashes(record, records.key(record["name"]))
        records.write(name, "keys", _lines(wanted))
        with contextlib.suppress(OSError):  # one that does not run reads the file when it starts
            present = set(re.findall(r"^0x\w+ ([0-9a-f]{64})$", _ask(name, "show acl keys"), re.M))
            for each in sorted(wanted - present):
                _ask(name, "add acl keys " + each)
            for each in sorted(present - wanted):
                _ask(name, "del acl keys " + each)


def _hashes(record: Record, key: str) -> Set[str]:
    """Return the SHA-256 of a model's own key and of the pod's named keys, unless other pods would reject those."""
    own = hashlib.sha256(key.encode()).hexdigest()
    if record.get("elsewhere"):
        return {own}
    try:
        named = reading.document(os.path.join(records.HOME, "keys", "keys.json"))["keys"]
        hashes = {str(each["sha256"]) for each in named}
    except (reading.ReadError, KeyError, TypeError):  # as for the guards, a file that cannot be read has no keys
        hashes = set()
    return {own} | {each for each in hashes if re.fullmatch("[0-9a-f]{64}", each)}


def _lines(hashes: Set[str]) -> str:
    return "".join(each + "\n" for each in sorted(hashes))


def _say(name: str, command: str) -> None:
    """Have HAProxy change something. Raises PodError if it objects."""
    try:
        answer = _ask(name, command).strip()
    except OSError as error:
        raise _trouble(name, "the HAProxy of %s does not answer: %s" % (name, error.strerror or error)) from None
    if answer and answer not in DONE:
        raise _trouble(name, "HAProxy rejects a change of %s: %s" % (name, answer.splitlines()[0][:200]))


DONE = ("New server registered.", "Server deleted.")
"""What HAProxy answers to a change that it made; to others nothing."""


def _ask(name: str, command: str) -> str:
    """Return HAProxy's answer to a command on its socket. Raises OSError.

    The path of a socket has at most 107 bytes, so this uses the number of an open folder.
    """
    folder = os.open(records.folder(name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect("/proc/self/fd/%d/admin.sock" % folder)
            connection.sendall(command.encode() + b"\n")
            parts: List[bytes] = []
            while True:
                part = connection.recv(1 << 16)
                if not part:
                    return b"".join(parts).decode("utf-8", "replace")
                parts.append(part)
    finally:
        os.close(folder)


def _trouble(name: str, message: str) -> PodError:
    return PodError("no_endpoint", message, name=name)
