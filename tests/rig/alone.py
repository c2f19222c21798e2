"""Run Python in a network namespace of its own, where every port is free: `python tests/rig/alone.py -m pytest ...`.

Its loopback also carries an outer address with a default route, so a server on 0.0.0.0 is reachable from outside.
Root keeps its rights. An ordinary user needs user namespaces and keeps its uid.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shlex
import socket
import struct
import subprocess
import sys
from pathlib import Path

OUTER_ADDRESS = "198.18.0.1"
"""From the range for benchmarks (RFC 2544), which no real network routes."""

MARK = "PI_TEST_ALONE"

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCADDRT, SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x890B, 0x8914, 0x8916, 0x891C
IFF_UP, RTF_UP = 0x1, 0x1


def is_alone() -> bool:
    """Return whether this process has its own network namespace."""
    return os.environ.get(MARK) == "yes"


def is_possible() -> bool:
    """Return whether this user can create network namespaces on this machine."""
    if not sys.platform.startswith("linux"):
        return False
    return subprocess.run([sys.executable, __file__, "-c", ""], capture_output=True).returncode == 0


def workers(count: int) -> list[str]:
    """Return pytest-xdist options for this many workers, each in its own namespace."""
    python = shlex.join([sys.executable, str(Path(__file__).resolve())])
    return ["--dist", "worksteal", "--tx", f"{count}*popen//python={python}"]


def _unshare() -> None:
    """Move this process into a new network namespace (unshare(2)); exec drops the rights gained by that."""
    uid, gid, is_root = os.geteuid(), os.getegid(), os.geteuid() == 0
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET if is_root else CLONE_NEWUSER | CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    if not is_root:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _furnish() -> None:
    """Bring loopback up, with 127.0.0.1, the outer address and a default route (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))
        fcntl.ioctl(control, SIOCSIFADDR, struct.pack("16s16s8x", b"lo:1", _address(OUTER_ADDRESS)))
        fcntl.ioctl(control, SIOCSIFNETMASK, struct.pack("16s16s8x", b"lo:1", _address("255.255.255.255")))
        device, anywhere = ctypes.create_string_buffer(b"lo"), _address("0.0.0.0") * 3
        route = struct.pack("@L48sHhLLhPLLH", 0, anywhere, RTF_UP, 0, 0, 0, 0, ctypes.addressof(device), 0, 0, 0)
        fcntl.ioctl(control, SIOCADDRT, route)


def _address(text: str) -> bytes:
    """Return a sockaddr_in without a port."""
    return struct.pack("@HH4s8x", socket.AF_INET, 0, socket.inet_aton(text))


if __name__ == "__main__":
    _unshare()
    _furnish()
    os.environ[MARK] = "yes"
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
