"""Every ssh command that providers show becomes the right target, or is refused by name."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pi.errors import InputError
from pi.ssh.target import LocalTarget, SshTarget, anchored, parse
from tests.rig.machine import program


def target(host: str, user: str | None = None, port: int | None = None, **fields: Any) -> SshTarget:
    return replace(SshTarget(host, user, port), **fields)


def case(name: str, *values: object) -> object:
    return pytest.param(*values, id=name)


KEY = ("~/.ssh/id_ed25519",)

ACCEPTED = [
    case(
        "RunPod's exposed TCP command has its key last",
        "ssh root@213.173.108.12 -p 17445 -i ~/.ssh/id_ed25519",
        target("213.173.108.12", "root", 17445, identity_files=KEY),
    ),
    case("an IP address with three parts", "ssh root@10.0.1", target("10.0.1", "root")),
    case(
        "RunPod's API gives user, host and port",
        "ssh root@195.26.233.3 -p 34446",
        target("195.26.233.3", "root", 34446),
    ),
    case(
        "runpodctl puts the key before the host and the port after",
        "ssh -i /home/me/.runpod/ssh/runpodctl-ssh-key root@194.68.245.207 -p 22100",
        target("194.68.245.207", "root", 22100, identity_files=("/home/me/.runpod/ssh/runpodctl-ssh-key",)),
    ),
    case(
        "Vast's direct command brings a forward",
        "ssh -p 20544 root@142.214.185.187 -L 8080:localhost:8080",
        target("142.214.185.187", "root", 20544),
    ),
    case(
        "Vast's proxy is a host like any other",
        "ssh -p 41111 root@ssh5.vast.ai -L 8080:localhost:8080",
        target("ssh5.vast.ai", "root", 41111),
    ),
    case(
        "Vast's command brings two forwards",
        "ssh -p 1234 root@180.123.123.123 -L 8080:localhost:8080 -L 5000:localhost:5000",
        target("180.123.123.123", "root", 1234),
    ),
    case(
        "host key checking is pi's own",
        "ssh -p 13782 -o StrictHostKeyChecking=no root@ssh5.vast.ai",
        target("ssh5.vast.ai", "root", 13782),
    ),
    case(
        "vastai ssh-url prints a URL",
        "ssh://root@142.214.185.187:20544",
        target("142.214.185.187", "root", 20544),
    ),
    case(
        "white space around a URL is trimmed",
        " \n ssh://root@1.2.3.4:22\n",
        target("1.2.3.4", "root", 22),
    ),
    case("a URL may end in a slash", "ssh ssh://root@h:22/", target("h", "root", 22)),
    case("a URL may name the host alone", "ssh://h", target("h")),
    case(
        "Prime Intellect leaves the word ssh out",
        "root@135.23.125.123 -p 2222",
        target("135.23.125.123", "root", 2222),
    ),
    case("a plain IP address has no port", "ssh root@1.2.3.4", target("1.2.3.4", "root")),
    case(
        "a plain host name has no port",
        "ssh root@instance.datacrunch.io",
        target("instance.datacrunch.io", "root"),
    ),
    case(
        "Lambda logs in as ubuntu",
        "ssh -i ~/.ssh/lambda_key ubuntu@192.168.1.100",
        target("192.168.1.100", "ubuntu", identity_files=("~/.ssh/lambda_key",)),
    ),
    case(
        "Hyperstack logs in as ubuntu",
        "ssh -i ~/.ssh/hyperstack1 ubuntu@149.36.0.170",
        target("149.36.0.170", "ubuntu", identity_files=("~/.ssh/hyperstack1",)),
    ),
    case(
        "AWS quotes a relative key",
        'ssh -i "Ubuntukey.pem" ubuntu@ec2-54-91-21-46.compute-1.amazonaws.com',
        target("ec2-54-91-21-46.compute-1.amazonaws.com", "ubuntu", identity_files=("Ubuntukey.pem",)),
    ),
    case("Paperspace needs no key", "ssh paperspace@184.105.6.151", target("184.105.6.151", "paperspace")),
    case(
        "TensorDock's user is named user",
        "ssh -p 20018 user@64.247.196.10",
        target("64.247.196.10", "user", 20018),
    ),
    case(
        "three jumps keep their order",
        "ssh -q -J user1@jumphost1,user2@jumphost2,user3@jumphost3 user@server",
        target("server", "user", jumps=("user1@jumphost1", "user2@jumphost2", "user3@jumphost3")),
    ),
    case("an alias stands alone", "ssh runpod-large", target("runpod-large")),
    case(
        "RunPod's password command can hold a key's login too",
        "ssh root@38.80.152.73 -p 32061",
        target("38.80.152.73", "root", 32061),
    ),
    case(
        "a bare host name is enough",
        "ssh root@worker-id-xyz -i ~/.ssh/id_ed25519",
        target("worker-id-xyz", "root", identity_files=KEY),
    ),
    case("brackets of an IPv6 address go", "ssh root@[2001:db8::1] -p 2222", target("2001:db8::1", "root", 2222)),
    case("an IPv6 address may stand bare", "ssh root@2001:db8::1", target("2001:db8::1", "root")),
    case("an IPv6 address may have a zone", "ssh root@fe80::1%eth0", target("fe80::1%eth0", "root")),
    case("-l names the user", "ssh -l ubuntu 1.2.3.4", target("1.2.3.4", "ubuntu")),
    case(
        "-o names user and port",
        "ssh -o User=ubuntu -o Port=2222 1.2.3.4",
        target("1.2.3.4", "ubuntu", 2222),
    ),
    case(
        "a remote command is left out",
        "ssh -tt root@1.2.3.4 nvidia-smi",
        target("1.2.3.4", "root"),
    ),
    case("a remote command keeps its own flags", "ssh h df -p 9", target("h")),
    case("two dashes end the flags", "ssh -p 9 -- h", target("h", None, 9)),
    case("flags cluster with a value", "ssh -NTp2222 root@h", target("h", "root", 2222)),
    case("a flag's value may be joined to it", "ssh -p2222 -oUser=me -lme h", target("h", "me", 2222)),
    case("an option's spelling is mended",
         "ssh -o 'serveraliveinterval 30' h", target("h", options=(("ServerAliveInterval", "30"),))),
    case("an option may have spaces around =", "ssh -o 'Port = 22' h", target("h", None, 22)),
    case("a quoted option loses its quotes",
         "ssh -o 'IdentityFile=\"my key\"' h", target("h", identity_files=("my key",))),
    case("keys add up, each once", "ssh -i a -o IdentityFile=b -i a h", target("h", identity_files=("a", "b"))),
    case("true is yes",
         "ssh -oIdentitiesOnly=TRUE -oTCPKeepAlive=False h",
         target("h", options=(("IdentitiesOnly", "yes"), ("TCPKeepAlive", "no")))),
    case("flags become options",
         "ssh -4C h", target("h", options=(("AddressFamily", "inet"), ("Compression", "yes")))),
    case("no agent is forwarded in any case", "ssh -a h", target("h")),
    case("strict host keys stay strict",
         "ssh -oStrictHostKeyChecking=yes h", target("h", options=(("StrictHostKeyChecking", "yes"),))),
    case("a host name may be set apart",
         "ssh -o HostName=1.2.3.4 pod", target("pod", options=(("HostName", "1.2.3.4"),))),
    case("jumps may have ports and brackets", "ssh -J u@[::1]:22,b:23 h", target("h", jumps=("u@[::1]:22", "b:23"))),
    case("a jump may be a URL", "ssh -J ssh://a@b:22 h", target("h", jumps=("a@b:22",))),
    case("the same port twice is one port", "ssh -p 22 ssh://root@h:22", target("h", "root", 22)),
    case("a certificate and an agent",
         "ssh -oCertificateFile=~/a.pub -oCertificateFile=b.pub -oIdentityAgent=$AGENT h",
         target("h", options=(
             ("IdentityAgent", "$AGENT"), ("CertificateFile", "~/a.pub"), ("CertificateFile", "b.pub")))),
    case("algorithms of an old server",
         "ssh -oHostKeyAlgorithms=+ssh-rsa -oPubkeyAcceptedAlgorithms=+ssh-rsa"
         " -oKexAlgorithms=+diffie-hellman-group14-sha1 -c aes128-cbc -m hmac-sha1 h",
         target("h", options=(
             ("HostKeyAlgorithms", "+ssh-rsa"), ("PubkeyAcceptedAlgorithms", "+ssh-rsa"),
             ("KexAlgorithms", "+diffie-hellman-group14-sha1"), ("Ciphers", "aes128-cbc"), ("MACs", "hmac-sha1")))),
    case("known_hosts of its own",
         "ssh -o userknownhostsfile=/dev/null h", target("h", options=(("UserKnownHostsFile", "/dev/null"),))),
    case("a key by ssh's tokens",
         "ssh -o IdentityFile=${HOME}/%r h", target("h", options=(("IdentityFile", "${HOME}/%r"),))),
    case("no key but the agent's",
         "ssh -o IdentityFile=none h", target("h", options=(("IdentityFile", "none"),))),
    case("a host name made of the alias",
         "ssh -o HostName=%h.example.com gpu1", target("gpu1", options=(("HostName", "%h.example.com"),))),
    case("no jump", "ssh -J none h", target("h", options=(("ProxyJump", "none"),))),
    case("no proxy", "ssh -oProxyCommand=none h", target("h", options=(("ProxyCommand", "none"),))),
    case("an address to come from",
         "ssh -b 127.0.0.1 -o ConnectionAttempts=3 -o 'SetEnv A=\"b c\"' h",
         target("h", options=(("BindAddress", "127.0.0.1"), ("ConnectionAttempts", "3"), ("SetEnv", 'A="b c"')))),
    case("methods with a key among them",
         "ssh -o PreferredAuthentications=publickey,password h",
         target("h", options=(("PreferredAuthentications", "publickey,password"),))),
    case("new host keys are accepted",
         "ssh -o StrictHostKeyChecking=accept-new h", target("h", options=(("StrictHostKeyChecking", "accept-new"),))),
    case("a user may hold an @", "ssh me@corp@gateway", target("gateway", "me@corp")),
]  # fmt: skip

FORWARDED = [
    case("as Terraform's users write it",
         'ssh -i ~/.ssh/appuser -o ProxyCommand="ssh -W %h:%p appuser@35.234.123.86" appuser@10.156.0.3',
         "appuser@35.234.123.86"),
    case("with a port before", 'ssh -o "ProxyCommand ssh -p 2222 -W %h:%p me@jump" h', "me@jump:2222"),
    case("with a port after", 'ssh -o ProxyCommand="ssh -q -W [%h]:%p me@jump -p 2222" h', "me@jump:2222"),
    case("with a user apart", 'ssh -o ProxyCommand="ssh -l me -W %h:%p jump" h', "me@jump"),
]  # fmt: skip

REFUSED = [
    case("RunPod's proxied login",
         "ssh 8y5rumuyb50m78-6441103b@ssh.runpod.io -i ~/.ssh/id_ed25519", "SSH over exposed TCP"),
    case("RunPod's proxy from the API", "ssh pod_abc@ssh.runpod.io", "SSH over exposed TCP"),
    case("RunPod's proxy in capitals", "ssh pod_abc@SSH.runpod.io.", "SSH over exposed TCP"),
    case("RunPod's proxy behind HostName", "ssh -o HostName=ssh.runpod.io x", "SSH over exposed TCP"),
    case("a line break", "ssh://root@123.123.123.123\n:123213", "line break"),
    case("a port over 65535", "ssh://root@123.123.123.123:123213", "65535"),
    case("Markdown's backslashes", "ssh -p 12345 root\\@123.45.78.10 -L 8080\\:localhost:8080", r"\@"),
    case("Markdown's backslash at a colon", "ssh root@1.2.3.4 -L 8080\\:localhost:8080", r"\:"),
    case("an IP address with 456 in it", "ssh -p 12345 root@123.456.789.10", "123.456.789.10"),
    case("a list of machines", '["root@10.0.0.1 -p 22", "root@10.0.0.2 -p 22"]', "names 2 machines"),
    case("an endless list", "[" * 100_000, "["),
    case("gcloud",
         'gcloud compute ssh --zone "us-central1-a" "zot-registry" --project "project-52ffd0bf-b13b-4292-983"',
         "gcloud compute config-ssh"),
    case("a password beside the command", "ssh root@38.80.152.73 -p 32061 Password: helloworld", "key"),
    case("a password on a second line", "ssh root@38.80.152.73 -p 32061\nPassword: helloworld", "key"),
    case("a password in the address", "ssh root:helloworld@host", "password"),
    case("a password in a URL", "ssh://root:helloworld@host:22", "password"),
    case("a password in a bad URL", "ssh://root:helloworld@ho;st:99999", "password"),
    case("a password with a slash at a bad host", "ssh root:hello/helloworld@ho;st", "password"),
    case("a password of a second machine", "ssh h root:hello/helloworld@other", "two machines"),
    case("a password in a jump", "ssh -J root:helloworld@jump h", "password"),
    case("a password after -l", "ssh -l root:helloworld h", "password"),
    case("sshpass", "sshpass -p helloworld ssh root@h", "sshpass"),
    case("a command after ;", "ssh root@host;calc", "cannot contain ;"),
    case("a command in $()", "ssh root@$(calc)", "cannot contain $"),
    case("a command in backticks", "ssh root@`calc`", "cannot contain `"),
    case("a command after a lone ;", "ssh root@host ; calc", "; calc"),
    case("a command after &&", "ssh root@host && calc", "&& calc"),
    case("a command for a pipe", "ssh root@host 'cat x | sh'", "cat x | sh"),
    case("a user with a shell's word", "ssh -l '$(calc)' host", "$"),
    case("a host with a comma", "ssh a,b", ","),
    case("a host with a wildcard", "ssh -J '*' host", "*"),
    case("a host that ssh would expand", "ssh %h", "%"),
    case("a host with a letter outside ASCII", "ssh root@h\u00f6st", "\u00f6"),
    case("an invisible space", "ssh root@host\u00a0-p 22", "U+00A0"),
    case("an escape sequence", "ssh root@host\x1b[2J", "U+001B"),
    case("an empty host", 'ssh "" root@h', "1 to 255"),
    case("an empty user", "ssh @h", "1 to 255"),
    case("an empty user in a URL", "ssh://@h", "1 to 255"),
    case("an endless host", "ssh " + "h" * 256, "1 to 255"),
    case("a host like a flag", "ssh root@-oProxyCommand=calc", "begin with -"),
    case("a host like a flag after --", "ssh -- -oProxyCommand=calc", "begin with -"),
    case("a user like a flag", "ssh -l -oProxyCommand=calc h", "begin with -"),
    case("a jump like a flag", "ssh -J -oProxyCommand=calc h", "begin with -"),
    case("a proxy command without a host", "ssh -oProxyCommand=calc", "names no machine"),
    case("a proxy command", "ssh -oProxyCommand=calc root@h", "ProxyCommand=calc"),
    case("a proxy command with more than ssh -W",
         "ssh -o 'ProxyCommand=ssh -W %h:%p j; calc' h", "j;: a user or host cannot contain ;"),
    case("a proxy command with a key", "ssh -o 'ProxyCommand=ssh -i k -W %h:%p j' h", "-J or ~/.ssh/config"),
    case("a proxy command within", "ssh -o 'ProxyCommand=ssh -o ProxyCommand=calc -W %h:%p j' h", "calc"),
    case("a proxy command to elsewhere", "ssh -o 'ProxyCommand=ssh -W evil:22 j' h", "ssh -W %h:%p"),
    case("a local command", "ssh -o LocalCommand=calc h", "LocalCommand=calc"),
    case("a command for known hosts", "ssh -o KnownHostsCommand=calc h", "KnownHostsCommand=calc"),
    case("a library to load", "ssh -o PKCS11Provider=/x.so h", "PKCS11Provider"),
    case("a library to load by flag", "ssh -I /x.so h", "-I /x.so"),
    case("a config file", "ssh -F cfg h", "-F cfg"),
    case("a log file", "ssh -E log h", "-E log"),
    case("a control socket", "ssh -S sock h", "-S sock"),
    case("a control command", "ssh -O exit h", "-O exit"),
    case("a library for security keys", "ssh -o SecurityKeyProvider=/x.so h", "SecurityKeyProvider=/x.so"),
    case("a config file as an option", "ssh -o Include=cfg h", "Include=cfg"),
    case("a program that runs by a match", "ssh -o 'Match exec calc' h", "Match"),
    case("permission to run a command", "ssh -o PermitLocalCommand=yes h", "PermitLocalCommand=yes"),
    case("a program for X11", "ssh -o XAuthLocation=calc h", "XAuthLocation=calc"),
    case("standard input as a tunnel", "ssh -W a:1 h", "-W a:1"),
    case("a flag that ssh has not", "ssh -Z h", "-Z"),
    case("a long flag", "ssh --zone x h", "--zone"),
    case("a flag without its value", "ssh h -p", "-p"),
    case("an option without a value", "ssh -o Port h", "Key=Value"),
    case("an option with a wrong value", "ssh -o AddressFamily=inet5 h", "inet6"),
    case("an option that asks for a password",
         "ssh -o PreferredAuthentications=password h", "PreferredAuthentications=password"),
    case("a port of 0", "ssh -p 0 h", "-p 0"),
    case("a port in words", "ssh -p http h", "-p http"),
    case("a port in other digits", "ssh -p \u0662\u0662 h", "65535"),
    case("a port after the host", "ssh root@h:22", "-p"),
    case("a path in a URL", "ssh://root@h:22/x", "65535"),
    case("a key by variable", "ssh -i $HOME/key h", "-i $HOME/key"),
    case("no key by word", "ssh -i none h", "-i none"),
    case("two sets of jumps by flag", "ssh -J a -J b h", "-J b: ProxyJump is a already"),
    case("a set of jumps by flag after an option", "ssh -o ProxyJump=a -J b h", "ProxyJump is a already"),
    case("a bare IPv6 jump", "ssh -J u@::1 h", "-J u@::1"),
    case("a path after a jump", "ssh -J jump// h", "-J jump//"),
    case("a path in a URL", "ssh ssh://root@h/etc", "ssh://root@h/etc"),
    case("no jump by word and slash", "ssh -J none/ h", "-J none/"),
    case("no jump by word in a URL", "ssh -o ProxyJump=ssh://None h", "ProxyJump=ssh://None"),
    case("an IPv6 address out of shape", "ssh root@[2001:db8:::1]", "IPv6"),
    case("a zone with a shell's word", "ssh 'fe80::1%e;calc'", "IPv6"),
    case("two machines", "ssh root@a root@b", "two machines, a and b"),
    case("two commands", "ssh root@a -p 22 ssh root@b", "two machines"),
    case("an address as a command", "ssh root@a 10.0.0.2", "10.0.0.2"),
    case("another program", "mosh root@h", "mosh is not an ssh command"),
    case("a host without ssh", "1.2.3.4", "1.2.3.4 is not an ssh command"),
    case("a prompt before ssh", "$ ssh root@h", "$ is not an ssh command"),
    case("an open quotation mark", "ssh -i 'my key root@h", "quotation mark"),
    case("nothing", "  ", "empty"),
    case("ssh alone", "ssh", "names no machine"),
]  # fmt: skip

NOTICED = [
    case("a forward", "ssh h -L 8080:localhost:8080", "-L 8080:localhost:8080"),
    case("a remote forward", "ssh h -R 1:h:2", "-R 1:h:2"),
    case("a proxy", "ssh h -D 1080", "-D 1080"),
    *(case(f"the flag -{flag}", f"ssh -{flag} h", f"-{flag} ") for flag in "NTtnfqvkx"),
    case("the agent's danger", "ssh -A h", "-A has no effect: pi forwards no agent"),
    case("loose host keys", "ssh -o stricthostkeychecking=no h", "StrictHostKeyChecking=no has no effect: pi pins"),
    case("new host keys", "ssh -o UpdateHostKeys=yes h", "UpdateHostKeys=yes has no effect: pi pins"),
    case("X11", "ssh -X h", "-X has no effect: pi forwards no X11"),
    case("X11 as an option", "ssh -o forwardx11=yes h", "ForwardX11=yes has no effect: pi forwards no X11"),
    case("a tunnel device", "ssh -w 0:0 h", "-w 0:0"),
    case("a forward as an option", "ssh -o 'LocalForward 1 h:2' h", "LocalForward=1 h:2"),
    case("a shared connection", "ssh -o ControlPath=none h", "ControlPath=none has no effect: pi keeps"),
    case("a shared connection by flag", "ssh -M h", "-M has no effect: pi keeps"),
    case("Kerberos' tickets", "ssh -K h", "-K has no effect: pi forwards no credentials"),
    case("an agent's socket to forward", "ssh -o ForwardAgent=$SSH_AUTH_SOCK h", "ForwardAgent=$SSH_AUTH_SOCK"),
    case("a log level", "ssh -o LogLevel=ERROR h", "LogLevel=ERROR"),
    case("no passwords", "ssh -o PasswordAuthentication=no h", "PasswordAuthentication=no"),
    case("a remote command", "ssh h nvidia-smi -l", "nvidia-smi -l"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ACCEPTED)
def test_an_ssh_command_becomes_its_target(text: str, expected: SshTarget) -> None:
    found = parse(text)
    assert isinstance(found, SshTarget)
    assert replace(found, notices=()) == expected


@pytest.mark.parametrize(("text", "jump"), FORWARDED)
def test_a_forwarding_proxy_command_becomes_a_jump(text: str, jump: str) -> None:
    found = parse(text)
    assert isinstance(found, SshTarget)
    assert (found.jumps, found.options) == ((jump,), ())


@pytest.mark.parametrize(("text", "named"), REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(InputError) as refusal:
        parse(text)
    message = refusal.value.render()
    assert named in message
    assert refusal.value.hint
    assert "\n" not in message
    assert "helloworld" not in message, "a password must not be shown"


@pytest.mark.parametrize(("text", "word"), NOTICED)
def test_a_word_without_effect_has_one_notice(text: str, word: str) -> None:
    found = parse(text)
    assert isinstance(found, SshTarget)
    (notice,) = found.notices
    assert notice.startswith(word)
    assert [option for option, _ in found.options] == []


REPEATED = [
    case("port", "-p 1 -p 2 h", "-p 2 has no effect: Port is 1 already, and ssh takes the first"),
    case("port after an option", "-o Port=1 -p 2 h", "-p 2 has no effect: Port is 1 already, and ssh takes the first"),
    case("port of a URL", "ssh://h:1 -p 2", "-p 2 has no effect: Port is 1 already, and ssh takes the first"),
    case("user", "-l a b@h", "b@h has no effect: User is a already, and ssh takes the first"),
    case("name of the host", "-o HostName=a -o HostName=b h",
         "-o HostName=b has no effect: HostName is a already, and ssh takes the first"),
    case("jump", "-J a -o ProxyJump=b h",
         "-o ProxyJump=b has no effect: ProxyJump is a already, and ssh takes the first"),
    case("address family", "-4 -6 h", "AddressFamily=inet has no effect: -6 comes later, and ssh takes the last"),
    case("address", "-b 127.0.0.1 -b 127.0.0.2 h",
         "BindAddress=127.0.0.1 has no effect: -b 127.0.0.2 comes later, and ssh takes the last"),
    case("compression", "-o Compression=no -C h",
         "Compression=no has no effect: -C comes later, and ssh takes the last"),
    case("ciphers", "-c aes128-ctr -o Ciphers=aes256-ctr h",
         "-o Ciphers=aes256-ctr has no effect: Ciphers is aes128-ctr already, and ssh takes the first"),
    case("MACs", "-m hmac-sha2-256 -m hmac-sha2-512 h",
         "MACs=hmac-sha2-256 has no effect: -m hmac-sha2-512 comes later, and ssh takes the last"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "notice"), REPEATED)
def test_a_repeated_setting_has_the_value_that_ssh_takes(words: str, notice: str) -> None:
    found = parse(f"ssh {words}")
    assert isinstance(found, SshTarget)
    assert found.notices == (notice,)
    assert read_by_ssh(words.split()) == read_by_ssh(found.ssh_words())


def read_by_ssh(words: list[str]) -> str:
    """Return the settings that `ssh` reads from these words, without a config file."""
    command = [program("ssh"), "-G", "-F", "none", *words]
    printed = subprocess.run(command, capture_output=True, check=True, text=True, stdin=subprocess.DEVNULL).stdout
    return "".join(line for line in printed.splitlines(True) if not line.startswith("host "))


def test_a_plain_command_has_no_notice() -> None:
    assert parse("ssh -p 22 -i key -J jump root@h") == target("h", "root", 22, identity_files=("key",), jumps=("jump",))


def test_the_word_local_is_this_machine() -> None:
    assert parse(" local\n") == LocalTarget()
    assert parse("ssh local") == SshTarget("local")


@pytest.mark.parametrize(
    ("found", "label"),
    [
        case("a user, host and port", target("1.2.3.4", "root", 2222), "root@1.2.3.4:2222"),
        case("an IPv6 address in brackets", target("::1", None, 22), "[::1]:22"),
        case("an alias", target("pod"), "pod"),
        case("this machine", LocalTarget(), "this machine"),
    ],
)
def test_a_label_reads_as_people_write_it(found: SshTarget | LocalTarget, label: str) -> None:
    assert found.label == label


def test_a_key_in_the_working_directory_gets_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my key.pem").touch()
    (tmp_path / "cert.pub").touch()
    text = 'ssh -i "my key.pem" -i ~/.ssh/b -o CertificateFile=cert.pub -p 22 -L 1:h:2 ubuntu@h'
    words = ["ssh", "-p", "22", "-l", "ubuntu", "-i", f"{tmp_path}/my key.pem", "-i", "~/.ssh/b"]
    assert shlex.split(anchored(text)) == [*words, "-o", f"CertificateFile={tmp_path}/cert.pub", "h"]
    for unchanged in ("local", "ssh -i elsewhere.pem root@h", f"ssh -i '{tmp_path}/my key.pem' h", "ssh -i %d/a h"):
        assert anchored(unchanged) == unchanged


def resolved(words: list[str], home: Path) -> dict[str, list[str]]:
    """What OpenSSH makes of `words`, as key -> values; brackets of a destination go, for ssh keeps them."""
    done = subprocess.run(
        [program("ssh"), "-F", "/dev/null", "-G", *words],
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    answer: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        if (key, value) == ("compression", "UNKNOWN"):  # how OpenSSH 10 prints what -C sets
            value = "yes"
        answer.setdefault(key, []).append(value.strip("[]") if key == "hostname" else value)
    compared = ("hostname", "user", "port", "identityfile", "proxyjump", "addressfamily", "compression",
                "serveraliveinterval", "tcpkeepalive", "identitiesonly", "certificatefile", "identityagent",
                "hostkeyalgorithms", "pubkeyacceptedalgorithms", "kexalgorithms", "ciphers", "macs",
                "userknownhostsfile", "bindaddress", "connectionattempts", "setenv", "proxycommand",
                "preferredauthentications")  # fmt: skip
    return {key: answer.get(key, []) for key in compared}


@pytest.mark.parametrize(("text", "expected"), ACCEPTED)
def test_openssh_reads_the_canonical_words_as_it_reads_the_original(
    text: str, expected: SshTarget, tmp_path: Path
) -> None:
    # OpenSSH drops a key that does not exist, so each key of the table lies in the test's own folder.
    text = text.replace("~/", "").replace("-i /", "-i ")
    for file in expected.identity_files:
        key = tmp_path / file.removeprefix("~/").removeprefix("/")
        key.parent.mkdir(parents=True, exist_ok=True)
        key.touch()
    found = parse(text)
    assert isinstance(found, SshTarget)
    words = shlex.split(text)
    theirs = resolved(words[words[0] == "ssh" :], tmp_path)
    assert resolved(found.ssh_words(), tmp_path) == theirs
    if expected.identity_files:
        assert theirs["identityfile"] == list(found.identity_files)


PIECES = st.sampled_from(
    ["ssh", "ssh://", "root", "@", ":", "1.2.3.4", "host", "[::1]", "-p", "22", "99999", "-i", "~/key", "-l", "-J",
     "a,b@c:1", "-o", "Port=", "User=", "IdentityFile=", "ProxyCommand=", "'ProxyCommand=ssh -W %h:%p a@b'",
     "ProxyJump=", "-tt", "-NT", "-L", "-A", "-C", "-F", "--", "-", "-X", "''", '"', "'", "\\", ";", "$(x)", "`", "=",
     "%", "*", "\n", "\x00", "\u00a0", "\u017f", "\udc80", "local", "[", "]", '["a"]']
)  # fmt: skip
LINES = st.one_of(
    st.text(max_size=60),
    st.lists(PIECES, max_size=10).map("".join),
    st.lists(PIECES, max_size=10).map(" ".join),
    st.lists(PIECES, max_size=10).map(lambda words: "ssh root@h " + " ".join(words)),
)
FORBIDDEN = set("'`\"$\\;&<>|(){}[], \t\r\n*?")


def is_safe(name: str) -> bool:
    return bool(name) and name[0] != "-" and name.isascii() and name.isprintable() and not set(name) & FORBIDDEN


@settings(deadline=None)
@given(LINES)
def test_any_text_is_a_target_by_the_rules_or_an_input_error(line: str) -> None:
    try:
        found = parse(line)
    except InputError as refusal:
        assert refusal.render().isprintable()
        return
    if isinstance(found, LocalTarget):
        assert line.strip() == "local"
        return
    assert is_safe(found.host)
    assert found.user is None or is_safe(found.user)
    assert found.port is None or 1 <= found.port <= 65535
    assert all(is_safe(jump.replace("[", "").replace("]", "")) for jump in found.jumps)
    assert all(path and path.isprintable() for path in found.identity_files)
    assert "ProxyCommand" not in dict(found.options)
    assert all(notice.isprintable() for notice in found.notices)
    again = parse(shlex.join(["ssh", *found.ssh_words()]))
    assert isinstance(again, SshTarget)
    assert replace(again, notices=()) == replace(found, notices=())
