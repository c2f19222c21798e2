"""The flags and options of ssh: those that pi acts on, and those that have no effect, with the reason."""

from __future__ import annotations

AGENT = "pi forwards no agent"

HOST_KEYS = "pi pins host keys itself"

KEY_LOGIN = "pi logs in with a key and asks for no password"

MESSAGES = "pi prints its own messages"

OWN_COMMANDS = "pi runs its own commands"

TERMINAL = "pi asks for a terminal where it needs one"

TUNNELS = "pi opens its own tunnels"

UNUSED_OPTIONS = {
    "ForwardAgent": ("yes|no|true|false", AGENT),
    "BatchMode": ("yes|no", KEY_LOGIN),
    "ExitOnForwardFailure": ("yes|no", TUNNELS),
    "GlobalKnownHostsFile": (".+", HOST_KEYS),
    "LogLevel": ("quiet|fatal|error|info|verbose|debug[123]?", MESSAGES),
    "PasswordAuthentication": ("yes|no", KEY_LOGIN),
    "PreferredAuthentications": ("([a-z-]+,)*publickey(,[a-z-]+)*", KEY_LOGIN),
    "PubkeyAuthentication": ("yes", KEY_LOGIN),
    "RequestTTY": ("yes|no|force|auto", TERMINAL),
    "StrictHostKeyChecking": ("no|off|false|ask|accept-new", HOST_KEYS),
    "UserKnownHostsFile": (".+", HOST_KEYS),
}
"""Options that have no effect with values of this pattern, and why."""

SSH_FLAGS = "1246ab:c:e:fgi:kl:m:no:p:qstvxAB:CD:E:F:GI:J:KL:MNO:P:Q:R:S:TVw:W:XYy"
"""All of ssh's flags (ssh.c); a colon follows those with a value."""

SETTING_FLAGS: dict[str, tuple[str, str | None]] = {
    "-4": ("AddressFamily", "inet"),
    "-6": ("AddressFamily", "inet6"),
    "-C": ("Compression", "yes"),
    "-J": ("ProxyJump", None),
    "-i": ("IdentityFile", None),
    "-l": ("User", None),
    "-p": ("Port", None),
}
"""Flags that set an option to this value, or to the flag's own."""

UNUSED_FLAGS = {
    **dict.fromkeys(("-D", "-L", "-R"), TUNNELS),
    **dict.fromkeys(("-A", "-a"), AGENT),
    **dict.fromkeys(("-N", "-f", "-n"), OWN_COMMANDS),
    **dict.fromkeys(("-T", "-t"), TERMINAL),
    **dict.fromkeys(("-q", "-v"), MESSAGES),
    "-k": "pi forwards no Kerberos tickets",
    "-x": "pi forwards no X11",
}
"""Flags that have no effect, and why."""
