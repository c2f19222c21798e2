"""The options and flags of `ssh` (ssh_config(5), ssh(1)), and what pi does with each.

A value that pi checks has a reading, which returns its canonical spelling or raises ValueError with the reason.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import NamedTuple

from pi.errors import InputError

UNSAFE = re.compile(r"""['`"$\\;&<>|(){}\[\],*?%]|[^!-~]""")
"""Characters refused in users and hosts: those of valid_hostname (ssh.c), all but printable ASCII, and those
that a shell or ssh's own %-tokens would expand, since ssh hands the names of a jump to both."""


class Machine(NamedTuple):
    """A host that ssh connects to, as a destination or a jump."""

    host: str
    user: str | None = None
    port: int | None = None

    @property
    def label(self) -> str:
        """The machine as -J reads it: "root@1.2.3.4:2222"."""
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return user + host + (f":{self.port}" if self.port else "")


def _name(text: str) -> str:
    if not text or text.startswith("-") or len(text) > 255:
        raise ValueError("a user or host has 1 to 255 characters and does not begin with -")
    if unsafe := UNSAFE.search(text):
        raise ValueError(f"a user or host cannot contain {unsafe[0]}")
    return text


def _user(text: str) -> str:
    if ":" in text:
        raise InputError(
            "ssh-password",
            "the ssh command holds a password or a second :",
            "pi logs in with a key: add yours to the machine",
        )
    return _name(text)


def host(text: str) -> str:
    """Return a host name or IP address in its canonical form."""
    if text.lower().rstrip(".") == "ssh.runpod.io":
        hint = 'paste the pod\'s "SSH over exposed TCP" command, with an IP address and a port'
        raise InputError("ssh-runpod-gateway", "ssh.runpod.io gives a terminal but runs no commands", hint)
    if "/" in text:
        raise ValueError("a host cannot contain /")
    if ":" in text:
        return _ipv6(text)
    if re.fullmatch(r"[0-9]+(\.[0-9]+){3}", text):
        return str(ipaddress.IPv4Address(text))
    return _name(text)  # also 127.1, or an alias such as 10.1


def _host_name(text: str) -> str:
    """Return the value of HostName, where %h stands for the name on the command line."""
    return text if "%h" in text and _name(text.replace("%h", "h")) else host(text)


def _ipv6(text: str) -> str:
    address, percent, zone = re.sub(r"^\[(.*)\]$", r"\1", text).partition("%")
    try:
        return str(ipaddress.IPv6Address(address)) + (percent + _name(zone) if percent else "")
    except ValueError:
        raise ValueError("this is not an IPv6 address, and a port is given by -p") from None


def _number(lowest: int, highest: int) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not re.fullmatch(r"[0-9]{1,6}", text) or not lowest <= int(text) <= highest:
            raise ValueError(f"a number from {lowest} to {highest} is needed")
        return str(int(text))

    return read


_port = _number(1, 65535)


def machine(text: str) -> Machine:
    """Return the machine of `[user@]host[:port]`, with or without ssh:// before it."""
    user, at, place = text.removeprefix("ssh://").removesuffix("/").rpartition("@")
    found = re.fullmatch(r"(\[.*\]|[^:]*)(?::(.*))?", place)
    if not found:
        raise ValueError("an IPv6 address stands in brackets here")
    checked_user = _user(user) if at else None
    return Machine(host(found[1]), checked_user, None if found[2] is None else int(_port(found[2])))


def key_path(text: str) -> str:
    """Return the path of a key for -i."""
    if not text.strip() or text == "none" or re.search(r'[$`\\"]', text):
        raise ValueError("the path of a key is written out, or begins with ~/")
    return text


def _key_option(text: str) -> str:
    """Return the value of IdentityFile: `none`, or a path in which ssh expands ${NAME} and %-tokens."""
    if text != "none":
        key_path(re.sub(r"\$\{\w+\}", "x", text))
    return text


def is_plain_path(value: str) -> bool:
    """Return whether a value of IdentityFile means the same after -i, where ssh expands nothing."""
    return value != "none" and "%" not in value and "${" not in value


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        word = {"true": "yes", "false": "no"}.get(text.lower(), text.lower())
        if word not in allowed:
            raise ValueError(f"pi honours {' or '.join(allowed)} here")
        return word

    return read


def _jumps(text: str) -> str:
    if text.lower() == "none":
        return "none"
    jumps = ",".join(machine(hop).label for hop in text.split(","))
    if jumps.lower() == "none":  # to ssh this means no jump at all, however it was written here
        raise ValueError("a jump names a machine")
    return jumps


def _methods(text: str) -> str:
    if not {"publickey", "gssapi-with-mic", "hostbased"} & set(passed_on(text).split(",")):
        raise ValueError("pi logs in with a key and asks for no password")
    return text


def passed_on(text: str) -> str:
    """Return a value that `ssh` itself checks."""
    if not text or len(text) > MAX_VALUE:
        raise ValueError(f"a value has 1 to {MAX_VALUE} characters")
    return text


MAX_VALUE = 1000

READINGS: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(("Compression", "IdentitiesOnly", "TCPKeepAlive"), _one_of("yes", "no")),
    **dict.fromkeys(("ConnectTimeout", "ServerAliveInterval", "ServerAliveCountMax"), _number(0, 99999)),
    "AddressFamily": _one_of("any", "inet", "inet6"),
    "HostKeyAlias": host,
    "HostName": _host_name,
    "IdentityFile": _key_option,
    "Port": _port,
    "PreferredAuthentications": _methods,
    "ProxyJump": _jumps,
    "StrictHostKeyChecking": _one_of("yes", "accept-new"),
    "User": _user,
}
"""Options whose value pi checks; times in seconds."""

PASSED_ON = (
    *("AddKeysToAgent", "BindAddress", "BindInterface", "CASignatureAlgorithms", "CanonicalDomains"),
    *("CanonicalizeFallbackLocal", "CanonicalizeHostname", "CanonicalizeMaxDots", "CanonicalizePermittedCNAMEs"),
    *("CertificateFile", "ChannelTimeout", "CheckHostIP", "Ciphers", "ConnectionAttempts", "FingerprintHash"),
    *("GSSAPIAuthentication", "GSSAPIClientIdentity", "GSSAPIKeyExchange", "GSSAPIServerIdentity", "GSSAPITrustDns"),
    *("GlobalKnownHostsFile", "HostKeyAlgorithms", "HostbasedAcceptedAlgorithms", "HostbasedAuthentication"),
    *("HostbasedKeyTypes", "IPQoS", "IdentityAgent", "IgnoreUnknown", "KexAlgorithms", "MACs"),
    *("NoHostAuthenticationForLocalhost", "ObscureKeystrokeTiming", "Protocol", "PubkeyAcceptedAlgorithms"),
    *("PubkeyAcceptedKeyTypes", "PubkeyAuthentication", "RSAMinSize", "RefuseConnection", "RekeyLimit"),
    *("RequiredRSASize", "RevokedHostKeys", "SendEnv", "SetEnv", "Tag", "UseKeychain", "UserKnownHostsFile"),
    *("VerifyHostKeyDNS", "VersionAddendum", "WarnWeakCrypto"),
)
"""Options that `ssh` gets as they are written: none runs a program, loads a library or forwards anything."""

REPEATED = ("CertificateFile", "IdentityFile", "SendEnv")
"""Options that add up; of the others, ssh takes the first."""

FILES = ("CertificateFile", "GlobalKnownHostsFile", "RevokedHostKeys", "UserKnownHostsFile")
"""Options whose value is a path; ssh reads a relative one from the working directory."""

AGENT = "pi forwards no agent"

CONNECTIONS = "pi keeps connections open by itself"

CREDENTIALS = "pi forwards no credentials"

HOST_KEYS = "pi pins host keys itself"

KEY_LOGIN = "pi logs in with a key and asks for no password"

MESSAGES = "pi prints its own messages"

OWN_COMMANDS = "pi runs its own commands"

TERMINAL = "pi asks for a terminal where it needs one"

TUNNELS = "pi opens its own tunnels"

X11 = "pi forwards no X11"

_UNUSED = {
    AGENT: ("ForwardAgent",),
    CONNECTIONS: ("ControlMaster", "ControlPath", "ControlPersist"),
    CREDENTIALS: ("GSSAPIDelegateCredentials",),
    HOST_KEYS: ("HashKnownHosts", "UpdateHostKeys"),
    KEY_LOGIN: (
        *("BatchMode", "ChallengeResponseAuthentication", "KbdInteractiveAuthentication", "KbdInteractiveDevices"),
        *("NumberOfPasswordPrompts", "PasswordAuthentication"),
    ),
    MESSAGES: ("LogLevel", "LogVerbose", "SyslogFacility", "VisualHostKey"),
    OWN_COMMANDS: ("ForkAfterAuthentication", "RemoteCommand", "SessionType", "StdinNull"),
    TERMINAL: ("EnableEscapeCommandline", "EscapeChar", "RequestTTY"),
    TUNNELS: (
        *("ClearAllForwardings", "DynamicForward", "ExitOnForwardFailure", "GatewayPorts", "LocalForward"),
        *("PermitRemoteOpen", "RemoteForward", "StreamLocalBindMask", "StreamLocalBindUnlink", "Tunnel"),
        *("TunnelDevice",),
    ),
    X11: ("ForwardX11", "ForwardX11Timeout", "ForwardX11Trusted"),
}

UNUSED = {name: why for why, names in _UNUSED.items() for name in names}
"""Options that have no effect, and why."""

_SPELLINGS = {name.lower(): name for name in (*READINGS, *PASSED_ON, *UNUSED, "ProxyCommand")}


def spelled(name: str) -> str:
    """Return the name of an option in OpenSSH's spelling, if pi knows it."""
    return _SPELLINGS.get(name.lower(), name)


def unused(name: str, value: str) -> str:
    """Return why an option with this value has no effect, or ""."""
    if name == "StrictHostKeyChecking" and value.lower() in ("no", "off", "false", "ask"):
        return HOST_KEYS
    return UNUSED.get(name, "")


FLAGS = "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:P:Q:R:S:TVw:W:XYy"
"""All of ssh's flags (ssh.c); a colon follows those with a value."""

OF_FLAGS: dict[str, tuple[str, str | None]] = {
    "-4": ("AddressFamily", "inet"),
    "-6": ("AddressFamily", "inet6"),
    "-B": ("BindInterface", None),
    "-C": ("Compression", "yes"),
    "-J": ("ProxyJump", None),
    "-P": ("Tag", None),
    "-b": ("BindAddress", None),
    "-c": ("Ciphers", None),
    "-l": ("User", None),
    "-m": ("MACs", None),
    "-p": ("Port", None),
}
"""Flags that set an option to this value, or to the flag's own."""

OVERRIDING = ("-4", "-6", "-B", "-C", "-b", "-c", "-m")
"""Flags that replace what came before them (ssh.c). For all other options, ssh takes the first value."""

UNUSED_FLAGS = {
    **dict.fromkeys(("-D", "-L", "-R", "-g", "-w"), TUNNELS),
    **dict.fromkeys(("-A", "-a"), AGENT),
    **dict.fromkeys(("-K", "-k"), CREDENTIALS),
    **dict.fromkeys(("-N", "-f", "-n"), OWN_COMMANDS),
    **dict.fromkeys(("-T", "-e", "-t"), TERMINAL),
    **dict.fromkeys(("-X", "-Y", "-x"), X11),
    **dict.fromkeys(("-q", "-v", "-y"), MESSAGES),
    "-M": CONNECTIONS,
}
"""Flags that have no effect, and why."""
