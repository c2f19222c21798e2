"""The pod's firewall, for a model that spans pods: ports between its ranks take any caller, and unpickle what comes.

One nftables table for each home drops new TCP connections to this pod. It lets pass the addresses of the model's pods,
the ports that the network reached before the first such model, and the guarded ports. Open connections go on. The table
needs no connection tracking: it drops nothing but the first packet of a connection.

Each model that spans pods, or that started after one, has `firewall.json` in its run folder: its part of the table. A
reboot ends the table, and the parts with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import json
import os
import shutil
import subprocess
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional

from pi.on_pod import lock, process, reading, records
from pi.on_pod.wire import PodError

FILE = "firewall.json"

PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"

PATIENCE_S = 20

MISSING = "it has no nft; as root there: apt-get install -y nftables"

REMOVE = "nft delete table inet %s"

MARK = "pi "
"""Begins the comment of the table's last rule."""

RULES = """\
add table inet {table}
delete table inet {table}
table inet {table} {{
 chain input {{
  type filter hook input priority -10; policy accept;
  iifname "lo" accept
  meta l4proto != tcp accept
  tcp flags & (syn | ack) != syn accept
{passes}
  drop comment "{mark}"
 }}
}}
"""
"""For `nft -f`, which takes all of it or nothing."""


class Part(NamedTuple):
    """What a model adds to the table: the addresses of its pods, and ports that everyone may reach."""

    members: List[str]
    ports: List[int]


def objection() -> Optional[str]:
    """Return why pi may not set rules here, such as "it has no nft", or None. Changes nothing."""
    return _nft(["-c", "-f", "-"], rules([Part(["192.0.2.1", "2001:db8::1"], [22])])).problem


def close(name: str, members: List[str], port: int) -> Optional[str]:
    """Let only these addresses reach the ports of a model's rank; everyone reaches its guarded `port`.

    Call it before the rank starts, under the pod's lock, when the run folder exists. Several models share one table.
    Returns why it failed, and then nothing has changed, or None.
    """
    reachable = _reachable()
    with _alone():
        others, stood = _parts(), _drops()
        is_shared = stood and _is_needed(others)
        already = {each for part in others.values() for each in part.ports} if is_shared else reachable
        _write(name, Part(members, sorted({port, *already, *_of_this_call()})))
        problem = _set(_parts())
        if not problem and not _stands():
            problem = "the rules are not in the kernel"
        if problem:
            _delete(name)
            _set(_parts() if stood else {})
    return problem


def is_closed(name: str) -> bool:
    """Return whether the rules of this model stand in the kernel, unchanged."""
    return name in _parts() and _stands()


def admit(name: str, port: int) -> None:
    """Let everyone reach the guarded port of another model, if a table stands. Call it when that model starts."""
    if not _is_needed(_parts()):
        return
    with _alone():
        if _drops():
            _write(name, Part([], [port]))
            _set(_parts())


def reopen(name: str) -> Optional[str]:
    """Remove the rules of a model; the table goes with its last one. Returns why it failed, or None.

    Call it before the model's run folder is deleted. Without rules it does nothing.
    """
    if name not in _parts():
        return None
    with _alone():
        parts = _parts()
        parts.pop(name, None)
        problem = _set(parts)
        if not problem:
            _delete(name)
    return problem and (problem if _is_needed(parts) else "%s; as root there: %s" % (problem, REMOVE % table()))


def renew() -> Optional[str]:
    """Set the table, if it stands, as the files say: a model may have lost its run folder. Returns as `reopen`."""
    with _alone():
        return _set(_parts()) if _drops() else None


@contextlib.contextmanager
def passing(address: str, port: int) -> Iterator[None]:
    """Let one address reach one port meanwhile, if a model that spans pods has closed this pod."""
    if not (_is_needed(_parts()) and _drops()):
        yield
        return
    rule = _pass("ip6 saddr" if ":" in address else "ip saddr", [_plain(address)])
    with _alone():
        _nft(["-f", "-"], "insert rule inet %s input tcp dport %d %s" % (table(), port, rule.strip()))
    try:
        yield
    finally:
        with _alone():
            _set(_parts())


def table() -> str:
    """Return the name of this home's table: several homes may share one machine."""
    return "pi_" + hashlib.sha256(os.path.realpath(records.HOME).encode()).hexdigest()[:8]


def rules(parts: Iterable[Part]) -> str:
    """Return the table with the parts of all models. The port of sshd by which this call came is open, too."""
    parts = list(parts)
    addresses = sorted({_plain(each) for part in parts for each in part.members})
    ports = sorted({port for part in parts for port in part.ports})
    passes = _pass("ip saddr", [each for each in addresses if ":" not in each])
    passes += _pass("ip6 saddr", [each for each in addresses if ":" in each])
    mark = MARK + hashlib.sha256((passes + str(ports)).encode()).hexdigest()[:16]
    passes += _pass("tcp dport", map(str, sorted({*ports, *_of_this_call()})))
    return RULES.format(table=table(), passes=passes, mark=mark)


def _plain(address: str) -> str:
    """Return an address as a rule has it. Raises ValueError, also for one with a scope, which may be any text."""
    if "%" in address:
        raise ValueError("%r does not appear to be an address without a scope" % address)
    return ipaddress.ip_address(address).compressed


def _pass(what: str, values: Iterable[str]) -> str:
    listed = ", ".join(values)
    return "  %s { %s } accept\n" % (what, listed) if listed else ""


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep other calls from the files and the table meanwhile; a stop does not have the pod's lock."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, PodError):  # a full disk: rules matter more
            fcntl.flock(stack.enter_context(lock.opened("firewall.lock")), fcntl.LOCK_EX)
        yield


def _of_this_call() -> List[int]:
    """Return the port of sshd that this call came by (ssh(1): SSH_CONNECTION): inetd may listen in its place."""
    words = os.environ.get("SSH_CONNECTION", "").split()
    return [int(words[3])] if len(words) == 4 and words[3].isdecimal() and 0 < int(words[3]) < 65536 else []


def _is_needed(parts: Dict[str, Part]) -> bool:
    return any(part.members for part in parts.values())


def _set(parts: Dict[str, Part]) -> Optional[str]:
    """Set the table of these models, or none. Returns why that failed, or None."""
    if _is_needed(parts):
        return _nft(["-f", "-"], rules(parts.values())).problem
    return _nft(["-f", "-"], "add table inet {0}\ndelete table inet {0}\n".format(table())).problem


def _drops() -> bool:
    """Return whether the kernel has this home's table, with rules."""
    return 'comment "%s' % MARK in _nft(["list", "table", "inet", table()]).text


def _stands() -> bool:
    """Return whether the kernel has the table that the files describe."""
    listed = _nft(["list", "table", "inet", table()]).text
    marked = rules(_parts().values()).partition("comment ")[2].partition("\n")[0]
    return "hook input" in listed and "comment %s" % marked in listed


def _reachable() -> List[int]:
    """Return the ports that the network reaches now, but none between ranks, and the guarded ports of all models."""
    recorded = records.load_all()
    ranks = [pid for record in recorded if "rank" in record for pid in records.living(record)]
    return sorted(process.public_listeners() - process.public_ports(ranks) | {record["port"] for record in recorded})


def _path(name: str) -> str:
    return os.path.join(records.folder(name), FILE)


def _delete(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(_path(name))


def _write(name: str, part: Part) -> None:
    records.write(name, FILE, json.dumps(dict(part._asdict(), boot=process.boot())))


def _parts() -> Dict[str, Part]:
    """Return the part of each model that has one since the pod's last boot; a damaged file is left out."""
    found = {}
    for name in sorted(os.listdir(records.RUN)) if os.path.isdir(records.RUN) else []:
        with contextlib.suppress(reading.ReadError, KeyError, TypeError, ValueError):
            value = reading.document(_path(name))
            members = [_plain(each) for each in value["members"]]
            part = Part(members, [int(port) for port in value["ports"] if 0 < int(port) < 65536])
            found.update({name: part} if value["boot"] == process.boot() else {})
    return found


class _Answer(NamedTuple):
    text: str
    problem: Optional[str]


def _nft(words: List[str], given: str = "") -> _Answer:
    """Run nft, as root if this account may do that without a password."""
    program = shutil.which("nft", path="%s:%s" % (os.environ.get("PATH", ""), PATH))
    if program is None:
        return _Answer("", MISSING)
    command = [program, *words] if os.geteuid() == 0 else ["sudo", "-n", program, *words]
    try:
        ended = subprocess.run(
            command,
            input=given.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=PATIENCE_S,
            env=dict(os.environ, LC_ALL="C"),
        )
    except FileNotFoundError:
        return _Answer("", "this account is not root there, and has no sudo")
    except subprocess.TimeoutExpired:
        return _Answer("", "nft did not end within %d s" % PATIENCE_S)
    if ended.returncode == 0:
        return _Answer(ended.stdout.decode("utf-8", "replace"), None)
    return _Answer("", _problem(ended.stderr.decode("utf-8", "replace")))


def _problem(text: str) -> str:
    """Return why nft failed, by what it printed."""
    if "Operation not permitted" in text:
        return "its container may not change the firewall (no CAP_NET_ADMIN)"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:200] if lines else "nft failed"
