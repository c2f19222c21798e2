"""Records that another pi, another program or a damaged disk wrote: shown as what they are, and in nobody's way."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pi.calls.validation import checked
from pi.on_pod import health, process, record_check, records, start, status, stop, survey
from pi.on_pod.record_shapes import Record
from pi.on_pod.shapes import StatusAnswer, Survey, SurveyRequest
from pi.on_pod.wire import PodError
from tests.rig.skips import skip
from tests.unit.on_pod.conftest import Wire

GOOD: dict[str, Any] = {
    "name": "a",
    "model": "/root/models/m",
    "port": 8001,
    "gpus": [0],
    "status": "running",
    "instance": "d81ea378b66584d1",
    "memory_share": 0.9,
    "boot_id": process.boot_id(),
    "session": 2**22,
    "started": 4242,
    "pid": 2**22,
}

MISSING = object()

FIELDS = ["name", "model", "port", "gpus", "status", "instance", "memory_share", "session", "started", "pid"]

VARIANTS = [(key, value) for key in FIELDS for value in (MISSING, "x", None, -1, [])]

VALID: list[tuple[str, object]] = [
    *(("gpus", []), ("memory_share", None), ("model", "x")),
    *((key, MISSING) for key in FIELDS[6:]),
]
"""Variants that are records all the same: of a CPU, with another share or model, or of a start under way."""

REQUEST: SurveyRequest = {"model": None, "ask_hub": False, "checkpoints": [], "gpu_query": "", "adapters": []}


def changed(key: str, value: object) -> dict[str, Any]:
    record = {**GOOD, key: value}
    return record if value is not MISSING else {name: part for name, part in GOOD.items() if name != key}


def write(name: str, content: str) -> Path:
    folder = Path(records.folder(name))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(content)
    return folder / "record.json"


def is_valid(key: str, value: object) -> bool:
    return (key, value) in VALID


@pytest.fixture(autouse=True)
def neighbour(home: Path) -> None:
    """A model `b` with a record as it should be."""
    write("b", json.dumps({**GOOD, "name": "b", "instance": "50ce69a5de8a7406", "gpus": [1]}))


def look(call: Wire) -> StatusAnswer:
    return checked(StatusAnswer, json.loads(json.dumps(status.status(call, {"gpu_query": ""}))))


def blocks_nothing(call: Wire) -> None:
    """A survey and the start of another name work, a start of this name is refused in words, and a stop clears it."""
    facts = checked(Survey, json.loads(json.dumps(survey.survey(REQUEST))))
    assert [record["name"] for record in facts["records"]] == ["b"]
    start.check_name("c")
    with pytest.raises(PodError, match="its record on the pod is damaged: ") as raised:
        start.check_name("a")
    assert raised.value.kind == "name_taken"
    assert stop.stop(call, {"names": ["a"]})[0]["found"] == "leftovers"
    assert os.listdir(records.RUN) == ["b"]


def test_fifty_damaged_records_are_reported_and_block_nothing(call: Wire) -> None:
    """Fifty records on one pod, each with one field that is missing or has a wrong value."""
    wrong: dict[str, tuple[str, object]] = {}
    for number, (key, value) in enumerate(VARIANTS):
        name = f"v{number}"
        record = changed(key, value)
        write(name, json.dumps({**record, "name": name} if key != "name" else record))
        if not is_valid(key, value):
            wrong[name] = (key, value)
    answer = look(call)
    assert len(answer["deployments"]) == 51 - len(wrong)
    problems = {odd["name"]: odd["problem"] for odd in answer["unrecorded"]}
    assert problems.keys() == wrong.keys()
    for name, (key, value) in wrong.items():
        fault = "missing" if value is MISSING else "invalid"
        assert problems[name] == ("it is the record of x" if value == "x" and key == "name" else f"{key} is {fault}")
    facts = checked(Survey, json.loads(json.dumps(survey.survey(REQUEST))))
    assert len(facts["records"]) == 51 - len(wrong)
    start.check_name("c")
    with pytest.raises(PodError, match="its record on the pod is damaged: ") as raised:
        start.check_name(next(iter(wrong)))
    assert raised.value.kind == "name_taken"
    assert {each["found"] for each in stop.stop(call, {"names": list(wrong)[::9]})} == {"leftovers"}
    assert len(look(call)["unrecorded"]) == len(wrong) - len(list(wrong)[::9])


def test_fifty_variants_are_tried() -> None:
    assert len(VARIANTS) == 50
    assert set(FIELDS) | {"version", "owner", "created"} <= set(Record.__annotations__)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def giant(path: Path) -> None:
    with path.open("w") as file:
        file.truncate(2**32)


CONTENTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_text(""), "it is empty"),
    "half": (lambda path: path.write_text('{"name": "a", '), "it is not valid JSON"),
    "a list": (lambda path: path.write_text("[]"), "it is not a JSON object"),
    "null": (lambda path: path.write_text("null"), "it is not a JSON object"),
    "bytes": (lambda path: path.write_bytes(b"\xff\x00\xfe"), "it is not valid JSON"),
    "deep": (lambda path: path.write_text("[" * 10**5), "its JSON is nested too deeply"),
    "digits": (lambda path: path.write_text("9" * 10**6), "it is not valid JSON"),
    "a folder": (Path.mkdir, "it is a folder, not a file"),
    "a FIFO": (fifo, "it is a FIFO, not a file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a file"),
    "a giant": (giant, "it has more than 16 MiB"),
    "a loop": (lambda path: path.symlink_to(path.name), "too many levels of symbolic links"),
    "a link to nowhere": (lambda path: path.symlink_to("nowhere"), "no such file or directory"),
    "newer": (
        lambda path: path.write_text(json.dumps({"version": 2, "name": "a", "servers": []})),
        "a newer pi wrote it (version 2; this pi knows 1)",
    ),
    "another's": (lambda path: path.write_text(json.dumps({**GOOD, "name": "z"})), "it is the record of z"),
}


@pytest.mark.parametrize("content", CONTENTS)
def test_a_record_of_another_kind_is_reported_and_blocks_nothing(call: Wire, content: str) -> None:
    make, problem = CONTENTS[content]
    path = write("a", "")
    path.unlink()
    make(path)
    [odd] = look(call)["unrecorded"]
    assert (odd["name"], odd["problem"], odd["pids"]) == ("a", problem, [])
    blocks_nothing(call)


@pytest.mark.parametrize(
    ("line", "fits"),
    [
        ("b 10.0.0.7 8001 2", True),
        ("b fd00::7 8001 2", True),
        ("b 10.0.0.7 8001 2\n    bind *:1", False),
        ("b x.example 8001 2", False),
        ("../b 10.0.0.7 8001 2", False),
        ("b 10.0.0.7 8001", False),
    ],
)
def test_a_line_of_another_pod_fits_into_haproxys_configuration(line: str, fits: bool) -> None:
    assert (record_check.problem({**GOOD, "elsewhere": [line]}, "a") is None) is fits


def test_a_record_of_another_user_is_not_trusted(call: Wire) -> None:
    if os.geteuid():
        skip("users")
    os.chown(write("a", json.dumps(GOOD)), 65534, -1)
    assert look(call)["unrecorded"][0]["problem"] == "it belongs to another user (uid 65534)"
    blocks_nothing(call)


def test_a_missing_record_is_no_record(call: Wire) -> None:
    (Path(records.RUN) / "a").mkdir()
    answer = look(call)
    assert answer["unrecorded"] == [] and len(answer["deployments"]) == 1
    start.check_name("a")
    assert stop.stop(call, {"names": ["a"]}) == [{"name": "a", "found": "nothing"}]


def test_unknown_keys_are_no_damage(call: Wire) -> None:
    write("a", json.dumps({**GOOD, "of_a_later_pi": {"x": [1]}}))
    assert [record["name"] for record in look(call)["deployments"]] == ["a", "b"]


def test_a_record_that_is_saved_has_a_version(home: Path) -> None:
    record = records.load("b")
    assert record
    records.save(record)
    assert json.loads((Path(records.folder("b")) / "record.json").read_text())["version"] == record_check.VERSION


def test_every_kind_of_value_has_a_check() -> None:
    assert record_check.valid_fields(GOOD) == GOOD
    assert record_check.valid_fields({key: object() for key in Record.__annotations__}) == {}


def test_a_trickling_server_cannot_stretch_a_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle() -> None:
            link = server.accept()[0]
            with link:
                for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200:
                    time.sleep(0.05)
                    try:
                        link.send(bytes([byte]))
                    except OSError:
                        return

        threading.Thread(target=trickle, daemon=True).start()
        began = time.monotonic()
        assert health.get(server.getsockname()[1], "/health", timeout_s=0.4) == (0, b"")
        assert time.monotonic() - began < 2


HUNG = {"since": 1.0, "processes": [{"pid": 7, "program": "VLLM::EngineCore", "state": "T", "stack": ""}]}


@pytest.mark.parametrize(
    ("text", "is_hung"),
    [
        (json.dumps(HUNG), True),
        (json.dumps({**HUNG, "processes": []}), True),
        ("{", False),
        ("[]", False),
        (json.dumps({"since": 1.0}), False),
        (json.dumps({**HUNG, "since": "x"}), False),
        (json.dumps({**HUNG, "processes": [{"pid": float("inf"), "program": "", "state": "", "stack": ""}]}), False),
        (json.dumps({**HUNG, "processes": 7}), False),
    ],
)
def test_a_damaged_report_of_a_hang_is_none(text: str, is_hung: bool, home: Path) -> None:
    path = write("b", json.dumps({**GOOD, "name": "b"}))
    path.with_name("hung").write_text(text)
    record = records.load("b")
    assert record and (records.hung(record) is not None) is is_hung


def test_after_a_reboot_neither_a_restart_nor_a_hang_is_shown(home: Path, call: Wire) -> None:
    path = write("b", json.dumps({**GOOD, "name": "b", "boot_id": "another", "instance": "50ce69a5de8a7406"}))
    path.with_name("restarts").write_text(f"2 3 {os.getpid()} 99\n")
    path.with_name("hung").write_text(json.dumps(HUNG))
    [found] = look(call)["deployments"]
    assert found["state"] == "rebooted" and "hung_s" not in found and found.get("phase") is None
