"""All reasons to skip a test: missing rights of this user, and properties of this machine.

After `make test` on a fresh machine, root skips only the IPv6 tests, and only if the kernel has no IPv6.
"""

from __future__ import annotations

from typing import NoReturn

import pytest

REASONS = {
    "mount": "this user cannot mount a file system here",
    "namespace": "this user cannot make a mount namespace here",
    "networks": "only root can make pods with networks of their own",
    "debootstrap": "this machine has no debootstrap, or does not reach the Debian packages",
    "shells": "this machine lacks zsh or fish",
    "shell": "this user's login shell is not bash",
    "terminal": "an sshd of an ordinary user in a user namespace gives no terminal",
    "users": "only root can act as another user",
    "IPv6": "this machine has no IPv6",
    "Linux": "pods run Linux",
    "driver": "this machine has an NVIDIA driver",
    "AMD": "this machine has an AMD GPU",
    "disk": "this machine has no second file system that this user can write to",
    "hub": "the model is on the hub: its files are not on this machine",
    "outer address": "this machine has no address but its loopback",
}


def skip(why: str) -> NoReturn:
    """Skip the running test."""
    pytest.skip(REASONS[why])


def skip_if(condition: object, why: str) -> pytest.MarkDecorator:
    """Mark tests that are skipped if the condition holds."""
    return pytest.mark.skipif(bool(condition), reason=REASONS[why])
