"""`pi key`: named keys of a pod. The guard that reads them has its tests in `tests/unit/on_pod/test_key.py`."""

from __future__ import annotations

import hashlib
import json

from jsonschema import validate

from chores.json_schemas import shown
from tests.rig.command import Pi
from tests.rig.pod import Pod
from tests.ssh.conftest import Serving


def test_a_key_is_printed_once_listed_and_revoked(serving: Serving) -> None:
    pi, box = serving.pi, serving.box
    added = pi("key", "add", "ann")
    [key] = added.out.splitlines()
    assert added.code == 0 and key.startswith("sk-") and len(key) > 40 and key not in added.err
    file = box.home / ".pi" / "keys" / "keys.json"
    [kept] = json.loads(file.read_text())["keys"]
    assert (kept["name"], kept["sha256"]) == ("ann", hashlib.sha256(key.encode()).hexdigest())
    again = pi("key", "add", "ann")
    assert (again.code, again.id, again.out) == (2, "key-taken", "")
    head, main, ann = pi.ok("key", "list").splitlines()
    assert head.split() == ["NAME", "ADDED", "(UTC)", "REQUESTS", "LAST"]
    assert main.split() == ["(PI_API_KEY)", "-", "0", "-"] and ann.split() == ["ann", kept["added"], "0", "-"]
    document = json.loads(pi.ok("key", "list", "--all-pods", "--json"))
    validate(document, shown("KeysJson"))
    assert [each["name"] for each in document["pods"][0]["keys"]] == [None, "ann"]
    assert "ann" in pi.ok("key", "revoke", "ann")
    unknown = pi("key", "revoke", "ann")
    assert (unknown.code, unknown.id) == (2, "unknown-key")
    assert pi("key", "add", "../x").id == "name-invalid"
    assert [line.split()[2:] for line in pi.ok("audit").splitlines()[-4:]] == [
        ["key", "add", "ann", "ok"],
        ["key", "add", "ann", "failed:", "key_taken"],
        ["key", "revoke", "ann", "ok"],
        ["key", "revoke", "ann", "failed:", "unknown_key"],
    ]
    places = [*box.home.rglob("*"), *pi.config.rglob("*")]
    found = [
        path for path in places if path.is_file() and not path.is_symlink() and key in path.read_text(errors="ignore")
    ]
    assert found == []


def test_a_model_gets_the_place_of_the_named_keys(serving: Serving) -> None:
    given = json.loads((serving.box.home / "received" / "qwen.json").read_text())["env"]
    assert given["PI_KEYS"] == str(serving.box.home / ".pi" / "keys")


def test_a_model_of_an_older_pi_is_named(pi: Pi, box: Pod) -> None:
    pi.ok("start", box.model(), "--name", "qwen")
    script = box.home / ".pi" / "run" / "qwen" / "launch.sh"
    script.write_text(script.read_text().replace(' PI_KEYS="$HOME/.pi/keys"', ""))
    assert "an older pi started qwen" in pi("key", "add", "ann").err
