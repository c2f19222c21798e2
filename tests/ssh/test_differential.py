"""pi beside `ssh`: the same words, config, keys, agents and known_hosts have the same verdict.

The reference is `ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new WORDS true`. The cases, and those that differ
on purpose, are in tests/fixtures/ssh/differential.toml.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pi.errors import HostKeyError, PiError
from pi.ssh import openssh, target
from tests.rig.cases import read_toml
from tests.rig.command import Pi, login
from tests.rig.keys import Keys, keygen, public
from tests.rig.patience import patient
from tests.rig.skips import skip
from tests.rig.sshd import SshdPod, free_port

ROOT = Path(__file__).parents[2]
TABLES = read_toml(ROOT / "tests" / "fixtures" / "ssh" / "differential.toml")

OLD = (
    "KexAlgorithms diffie-hellman-group14-sha1",
    "Ciphers aes128-cbc",
    "MACs hmac-sha1-96",
    "HostKeyAlgorithms ssh-rsa",
)

OWN_KEY_EXCHANGE = "KexAlgorithms +curve25519-sha256"
"""OpenSSH's own list, and not the rig's."""

RELAY = """
import os, socket, sys, threading
pod = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def up():
    while data := os.read(0, 65536):
        pod.sendall(data)
    pod.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := pod.recv(65536):
    os.write(1, data)
"""
"""A program for ProxyCommand: it connects its stdin and stdout to a host and a port."""


@dataclass(frozen=True)
class Case:
    """`<name>` in a text is a value of the lab. `works` is the verdict of ssh; pi's is the same unless `pi` says it."""

    name: str
    works: bool
    words: str = "-p <port> -i <keys>/good <user>@127.0.0.1"
    config: str = ""
    known_hosts: str = ""
    agent: str = ""
    says: str = ""
    strict: bool = False
    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    docs: str = ""
    pi: bool | None = None


@dataclass(frozen=True)
class Lab:
    """Servers with different options, keys and agents. `values` fill the texts of a case."""

    values: dict[str, str]
    agents: dict[str, str]

    def filled(self, text: str, pi: Pi) -> str:
        values = {**self.values, "home": str(pi.home)}
        return re.sub(r"<(\w+)>", lambda found: values[found[1]], text)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    keys = Keys(folder / "keys", login())
    for kind in ("rsa", "ecdsa"):
        keygen("-t", kind, "-N", "", "-f", folder / f"host_{kind}")
    host_keys = tuple(f"HostKey {folder}/host_{kind}" for kind in ("rsa", "ecdsa"))
    servers = {
        "": (*host_keys, "ListenAddress ::1", f"TrustedUserCAKeys {keys.folder}/user_ca.pub"),
        "certified": (f"HostCertificate {folder}/certified/host_key-cert.pub",),
        "hardened": ("KexAlgorithms curve25519-sha256", "Ciphers aes256-gcm@openssh.com"),
        "chacha": ("Ciphers chacha20-poly1305@openssh.com", "MACs hmac-sha2-512-etm@openssh.com", OWN_KEY_EXCHANGE),
        "old": (host_keys[0], *OLD),
        "jump": (),
        "jump2": (),
        "closed": ("AllowTcpForwarding no",),
        "forced": ("ForceCommand exit 7",),
    }
    values = {"user": login(), "keys": str(keys.folder), "nowhere": str(free_port()), "python": sys.executable}
    (keys.folder / "relay.py").write_text(RELAY)
    with ExitStack() as stack:
        for name, options in servers.items():
            server = SshdPod(folder / (name or "main"), options=options)
            server.authorized_keys.write_text("\n".join([*keys.authorized, ""]))
            if name == "certified":
                host_key = server.folder / "host_key.pub"
                keygen("-s", keys.folder / "host_ca", "-I", "pod", "-h", "-n", "127.0.0.1,localhost", host_key)
            stack.callback(server.up().down)
            values[f"{name}_port".lstrip("_")] = str(server.port)
            values[f"{name}_key".lstrip("_")] = public(server.folder / "host_key")
        values |= {f"key_{kind}": public(folder / f"host_{kind}") for kind in ("rsa", "ecdsa")}
        values |= {name: public(keys.folder / name) for name in ("host_ca", "stranger")}
        agents = stack.enter_context(keys.agents())
        yield Lab({**values, **{f"agent_{name}": path for name, path in agents.items()}}, agents)


def prepared(case: Case, lab: Lab, pi: Pi, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Set up the laptop of a case. Returns the words after `ssh`."""
    pi.ssh_config(lab.filled(case.config, pi))
    known_hosts = pi.home / ".ssh" / "known_hosts"
    known_hosts.write_text(lab.filled(case.known_hosts.removeprefix("#hashed\n"), pi))
    if case.known_hosts.startswith("#hashed\n"):
        keygen("-H", "-f", known_hosts)
    for name, text in case.files.items():
        path = pi.home / lab.filled(name, pi)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(lab.filled(text, pi))
        path.chmod(0o700)
    for name, key in case.links.items():
        (pi.home / lab.filled(name, pi)).symlink_to(Path(lab.values["keys"], key))
    for name in set(os.environ) - {"PYTEST_CURRENT_TEST"}:
        monkeypatch.delenv(name)
    values = {**pi.environment, **{name: lab.filled(text, pi) for name, text in case.env.items()}}
    if case.agent:
        values["SSH_AUTH_SOCK"] = lab.agents[case.agent]
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(pi.home)
    return lab.filled(case.words, pi).split(" ")


def by_ssh(words: list[str], strict: bool) -> subprocess.CompletedProcess[str]:
    checking = "yes" if strict else "accept-new"
    options = ["-o", "BatchMode=yes", "-o", f"StrictHostKeyChecking={checking}"]
    return subprocess.run(
        ["ssh", *options, *words, "true"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patient(20),
        start_new_session=True,
    )


def by_pi(words: list[str], pi: Pi) -> PiError | None:
    """Return why pi cannot log in with these words, or None."""
    try:
        way = openssh.way_to(target.parse(" ".join(["ssh", *words])), pi.config)
        try:
            way.start()
            way.ready()
        finally:
            way.close()
    except PiError as error:
        return error
    return None


def cases(table: str) -> list[object]:
    """Return the cases of a table. Of those with the same verdict, `make test` has a quarter, and `.ci/run` half."""
    left = {1: [pytest.mark.slow], 2: [pytest.mark.long], 3: [pytest.mark.slow]} if table == "same" else {}
    return [
        pytest.param(Case(**values), id=values["name"], marks=left.get(number % 4, []))
        for number, values in enumerate(TABLES[table])
    ]


@pytest.mark.every_case
@pytest.mark.parametrize("case", cases("same"))
def test_pi_has_the_verdict_of_ssh(case: Case, lab: Lab, pi: Pi, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() and "RequestTTY" in case.config:
        skip("terminal")
    words = prepared(case, lab, pi, monkeypatch)
    before = (pi.home / ".ssh" / "known_hosts").read_bytes()
    error = by_pi(words, pi)
    assert (pi.home / ".ssh" / "known_hosts").read_bytes() == before
    done = by_ssh(words, case.strict)
    assert (done.returncode == 0) == case.works, done.stderr
    assert (error is None) == case.works, (error, error.hint) if error else done.stderr
    assert error is None or case.says in f"{error.message} {error.hint}", (error, error.hint)
    is_about_host_key = "Host key verification failed" in done.stderr or "marked as revoked" in done.stderr
    assert isinstance(error, HostKeyError) == (is_about_host_key and not case.works), error


@pytest.mark.parametrize("case", cases("different"))
def test_pi_differs_on_purpose(case: Case, lab: Lab, pi: Pi, monkeypatch: pytest.MonkeyPatch) -> None:
    words = prepared(case, lab, pi, monkeypatch)
    error = by_pi(words, pi)
    done = by_ssh(words, case.strict)
    assert (done.returncode == 0, error is None) == (case.works, case.pi), (done.stderr, error)
    assert case.docs in " ".join((ROOT / "docs" / "setup.md").read_text().split())


def test_there_are_at_least_sixty_combinations() -> None:
    names = [values["name"] for table in TABLES.values() for values in table]
    assert len(names) == len(set(names)) and len(TABLES["same"]) >= 150
