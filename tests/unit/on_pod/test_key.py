"""Named keys: what `pi key` writes on the pod, and the guard that reads it."""

from __future__ import annotations

import hashlib
import json
import stat
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pi.on_pod import key, records
from pi.on_pod.wire import PodError
from tests.unit.on_pod.conftest import Wire
from tests.unit.setup.test_guard import KEY, Routes, answered, bearer, imported

ANN = "sk-ann-0123456789abcdef"
HASH = hashlib.sha256(ANN.encode()).hexdigest()


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return imported()


@pytest.fixture
def keys(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the pod's named keys."""
    return home / ".pi" / "keys"


@pytest.fixture
def routes() -> Routes:
    return Routes()


@pytest.fixture
def guard(keys: Path, module: ModuleType, routes: Routes, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The guard of a server on that pod, which looks for named keys at every request."""
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    monkeypatch.setenv("PI_KEYS", str(keys))
    monkeypatch.setattr(module, "KEYS_EVERY_S", 0)
    return module.Guard(routes)


def test_a_named_key_opens_the_server_until_it_is_revoked(guard: Any, routes: Routes, call: Wire) -> None:
    assert answered(guard, "GET", "/v1/models", [bearer(ANN)])["status"] == 401
    key.add(call, {"name": "ann", "sha256": HASH})
    for headers in ([bearer(ANN)], [("x-api-key", ANN)]):
        assert answered(guard, "GET", "/v1/models", headers)["status"] == 200
    assert routes.reached[-1]["headers"] == [(b"authorization", f"Bearer {KEY}".encode())], "what vLLM itself checks"
    assert answered(guard, "GET", "/v1/models", [bearer(HASH)])["status"] == 401
    assert answered(guard, "GET", "/v1/models", [bearer(KEY)])["status"] == 200
    key.revoke(call, {"name": "ann"})
    assert answered(guard, "GET", "/v1/models", [bearer(ANN)])["status"] == 401
    assert answered(guard, "GET", "/v1/models", [bearer(KEY)])["status"] == 200


@pytest.mark.parametrize("text", ["", "[", "[" * 99999, "{}", '{"keys": [{}]}', '{"keys": 3}', "[1]", '{"keys": [[]]}'])
def test_a_damaged_file_of_named_keys_opens_nothing(
    text: str, keys: Path, guard: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    keys.mkdir()
    (keys / "keys.json").write_text(text)
    assert answered(guard, "GET", "/v1/models", [bearer(ANN)])["status"] == 401
    assert answered(guard, "GET", "/v1/models", [bearer(KEY)])["status"] == 200
    assert "cannot read" in capfd.readouterr().err
    answered(guard, "GET", "/v1/models", [bearer(ANN)])
    assert "cannot read" not in capfd.readouterr().err, "once for each change of the file"


def test_requests_count_for_their_key_and_looks_do_not(keys: Path, guard: Any, call: Wire) -> None:
    key.add(call, {"name": "ann", "sha256": HASH})
    for shown, method in [(ANN, "POST"), (ANN, "GET"), (KEY, "POST"), (ANN, "POST"), ("other", "POST")]:
        asked_and_counted(guard, method, shown)
    counted = key.listed(call, {})["keys"]
    assert [(each["name"], each["requests"]) for each in counted] == [(None, 1), ("ann", 2)]
    assert all(each["used_s_ago"] is not None and each["used_s_ago"] < 60 for each in counted)
    assert stat.S_IMODE((keys / "counts.json").stat().st_mode) == 0o600
    key.revoke(call, {"name": "ann"})
    key.add(call, {"name": "ann", "sha256": HASH})
    assert key.listed(call, {})["keys"][1]["requests"] == 0, "another key of that name begins at 0"


def asked_and_counted(guard: Any, method: str, shown: str) -> None:
    """Send a request, and end the server, which writes the counts."""
    answered(guard, method, "/v1/chat/completions", [bearer(shown)])
    guard._counts.write()


def test_a_change_is_seen_within_a_second_and_an_unchanged_file_is_not_read_again(
    keys: Path, guard: Any, module: ModuleType, call: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEYS_EVERY_S", 0.2)
    assert answered(guard, "GET", "/v1/models", [bearer(ANN)])["status"] == 401
    key.add(call, {"name": "ann", "sha256": HASH})
    assert answered(guard, "GET", "/v1/models", [bearer(ANN)])["status"] == 401, "it looks every 0.2 s"
    time.sleep(0.2)
    assert answered(guard, "GET", "/v1/models", [bearer(ANN)])["status"] == 200
    monkeypatch.setattr(module, "_hashes", None)
    time.sleep(0.2)
    assert answered(guard, "GET", "/v1/models", [bearer(ANN)])["status"] == 200


def test_a_call_returns_after_every_guard_has_looked(module: ModuleType) -> None:
    assert module.KEYS_EVERY_S < key.EFFECTIVE_S < 1


def test_the_pod_keeps_only_the_hash_in_a_private_file(keys: Path, call: Wire) -> None:
    answer = key.add(call, {"name": "ann", "sha256": HASH})
    assert [each["name"] for each in answer["keys"]] == [None, "ann"]
    assert stat.S_IMODE((keys / "keys.json").stat().st_mode) == 0o600
    [kept] = json.loads((keys / "keys.json").read_text())["keys"]
    assert kept == {"name": "ann", "sha256": HASH, "added": answer["keys"][1]["added"]}


def test_a_name_is_taken_once_and_revoked_once(keys: Path, call: Wire) -> None:
    key.add(call, {"name": "ann", "sha256": HASH})
    with pytest.raises(PodError, match="already has a key named ann"):
        key.add(call, {"name": "ann", "sha256": "0" * 64})
    key.revoke(call, {"name": "ann"})
    with pytest.raises(PodError, match="no key named ann; it has none"):
        key.revoke(call, {"name": "ann"})


@pytest.mark.parametrize("text", ["", "[", "{}", '{"keys": [{"name": "ann"}]}', '{"keys": 3}', "[1]"])
def test_a_damaged_file_is_never_overwritten(text: str, keys: Path, call: Wire) -> None:
    keys.mkdir()
    (keys / "keys.json").write_text(text)
    for change in (key.add, key.revoke):
        with pytest.raises(PodError, match="cannot read the pod's named keys"):
            change(call, {"name": "bob", "sha256": HASH})
    assert (keys / "keys.json").read_text() == text


@pytest.mark.parametrize("text", ["", "[", "[" * 9999, "[1]", '{"": 3}', '{"": ["x", 1]}'])
def test_damaged_counts_begin_at_0(text: str, keys: Path, guard: Any, call: Wire) -> None:
    keys.mkdir()
    (keys / "counts.json").write_text(text)
    assert key.listed(call, {})["keys"][0]["requests"] == 0
    asked_and_counted(guard, "POST", KEY)
    assert key.listed(call, {})["keys"][0]["requests"] == 1


def test_a_model_of_an_older_pi_is_named(home: Path, call: Wire) -> None:
    run = home / ".pi" / "run"
    for name, script in (("old", "export PI_ASKED=x\n"), ("new", 'export PI_KEYS="$HOME/.pi/keys"\n')):
        records.write(name, "launch.sh", script)
        assert (run / name).is_dir()
    assert [name for name in ("old", "new") if key.is_deaf(name)] == ["old"]
