"""Wrong answers of a pod: each field of each answer of `shapes.py` replaced, and read by what reads it in earnest."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, is_typeddict

import pytest

from pi import calls
from pi.calls import doctor, network, span
from pi.calls.asked import last_asked_s_ago
from pi.calls.audit import recent_changes
from pi.calls.bench import bench
from pi.calls.cache import read_cache
from pi.calls.check import check
from pi.calls.events import READERS
from pi.calls.explain import read_ending
from pi.calls.failures import ERRORS
from pi.calls.key import read_keys
from pi.calls.logs import follow_log
from pi.calls.pull import pull_model
from pi.calls.scale import open_endpoint
from pi.calls.setup import SetupRequest, set_up
from pi.calls.start import start_model
from pi.calls.status import read_status
from pi.calls.stop import stop_models
from pi.calls.survey import look
from pi.calls.top import sample as take_samples
from pi.calls.validation import fields
from pi.errors import PiError
from pi.fabric_tasks.key import key_rows
from pi.model_id import ModelId
from pi.on_pod import shapes
from pi.on_pod.bench_shapes import BenchAnswer
from pi.on_pod.cache_shapes import CacheAnswer, PulledRepository
from pi.on_pod.check_shapes import CheckAnswer
from pi.on_pod.doctor_shapes import DoctorAnswer
from pi.on_pod.events import Event, FailureKind, ServerDetail
from pi.on_pod.key_shapes import KeysAnswer
from pi.on_pod.network_shapes import NetworkAnswer
from pi.on_pod.scale_shapes import OpenAnswer
from pi.on_pod.span_shapes import SpanAnswer
from pi.on_pod.top_shapes import TopAnswer
from pi.planning import catalog, planner
from pi.planning.preflight import findings
from pi.planning.types import PodFacts, Request
from pi.pods import state
from pi.pods.types import Pod, State
from pi.steps import benchmarks, cache_table, check_report, listing, pod_entry, pull_report, reconcile
from pi.steps.benchmarks import Level, Result
from pi.steps.group import Asked
from pi.steps.listing import Seen
from pi.steps.pull_report import PullReport
from pi.steps.reports import StartReport
from pi.steps.setup_report import SetupReport
from pi.steps.stop_report import show_stopped
from pi.steps.top import History, show
from pi.vllm.log import explain
from tests import pods
from tests.rig.cases import SHARE, share

ANSWERS: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "answers.json").read_text())
"""Events of whole calls, as the tests' pods sent them."""

PIECE = b"INFO:     Application startup complete.\n"
"""What follows each event of a log."""

RESULTS: dict[str, Any] = {
    "asked": shapes.AskedAnswer,
    "audit": list[str],
    "status": shapes.StatusAnswer,
    "survey": shapes.Survey,
    "start": shapes.StartAnswer,
    "stop": list[shapes.StopAnswer],
    "scale": OpenAnswer,
    "span": SpanAnswer,
    "network": NetworkAnswer,
    "logs": shapes.LogsAnswer,
    "explain": ServerDetail,
    "setup": shapes.SetupAnswer,
    "check": CheckAnswer,
    "key": KeysAnswer,
    "pull": list[PulledRepository],
    "cache": CacheAnswer,
    "top": TopAnswer,
    "bench": BenchAnswer,
    "doctor": DoctorAnswer,
}

EVENTS = {get_args(fields(shape)["event"])[0]: shape for shape in get_args(Event)}

CATALOG = catalog.load()

REQUEST = Request(ModelId("/root/models/m"), "q")

POD = Pod("box", "ssh root@192.0.2.1")

MISSING = object()


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


WRONG: dict[str, Any] = {
    "nothing": MISSING,
    "null": None,
    "a text": "tëxt\n\x1b[2J",
    "a number": 7,
    "a negative number": -1,
    "a fraction": 0.5,
    "true": True,
    "a list": [],
    "an object": {},
    "a list of objects": [{}],
    "an object of texts": {"a": "b"},
    "a huge text": "x" * 2**17,
    "a huge number": 10**30,
    "a huge fraction": 1e300,
    "an endless fraction": float("inf"),
    "deep lists": nested(200),
    "deep objects": {"a": {"a": nested(60)}},
}


class Stream:
    """A pod that sends these events, whatever it is asked; it obeys a cancel, which follows a refused plan."""

    def __init__(self, events: list[Any]) -> None:
        self.events = events
        self.mark = b""

    def send(self, data: bytes) -> None:
        self.mark = self.mark or data.rpartition(b'"mark": "')[2].partition(b'"')[0]
        if data == b'{"cancel": true}\n':
            self.events = [{"event": "cancelled"}]

    def receive(self, timeout_s: float) -> bytes:
        events, self.events = self.events, []
        return b"".join(map(self._sent, events))

    def _sent(self, event: Any) -> bytes:
        piece = PIECE + b"\n" if isinstance(event, dict) and event.get("event") == "log" else b""
        return self.mark + b" " + json.dumps(event).encode() + b"\n" + piece

    def exit_status(self) -> int | None:
        return 0

    def close(self) -> None:
        """Nothing is open."""


class Link:
    """A connection to a pod that answers with these events."""

    def __init__(self, events: list[Any]) -> None:
        self.source = Stream(events)

    def stream(self, command: str) -> Stream:
        return self.source


def start(link: Any) -> None:
    def decide(facts: PodFacts) -> Any:
        return report.planned(planner.plan(REQUEST, facts, CATALOG), facts)

    report = StartReport(REQUEST, "box")
    try:
        started = start_model(
            link,
            model=REQUEST.model,
            name="q",
            key="sk-0123456789abcdef",
            decide=decide,
            correct=report.corrected,
            listen=report.hear,
        )
    finally:
        report.end()
    reconcile.remember_started(POD, started.deployment)


def status(link: Any) -> None:
    answer = read_status(link)
    asked = [Asked(POD, Seen(answer, "192.0.2.1"))]
    listing.lines(asked)
    listing.as_json(asked)
    reconcile.reconcile(POD, answer)


def explained(link: Any) -> None:
    ended = read_ending(link, "q")
    explain(ended.log, ended.exit_code, ended.facts)


def setup(link: Any) -> None:
    report = SetupReport("box")
    try:
        facts = set_up(link, "box", SetupRequest(None, "sk-0123456789abcdef"), report.hear, report.judge)
    finally:
        report.end()
    pod_entry.remember_setup(POD, facts, "ssh-ed25519 SHA256:x", None)


def survey(link: Any) -> None:
    facts = look(link, REQUEST.model)
    planner.plan(REQUEST, facts, CATALOG)


def check_of(link: Any) -> None:
    facts = check(link, {})
    assert check_report.machine_line(facts) and findings(facts)


def stop(link: Any) -> None:
    for stopped in stop_models(link, [], lambda event: None):
        show_stopped(stopped)


def scale(link: Any) -> None:
    found = open_endpoint(
        link, model="m", name="q", key="sk-0123", private=False, options={}, listen=lambda event: None
    )
    reconcile.remember(POD, found.deployment)


def pull(link: Any) -> None:
    report = PullReport(0, "box")
    plan = planner.plan(REQUEST, pods.pod("h100", 1), CATALOG)
    try:
        for pulled in pull_model(link, plan, report.hear):
            pull_report.describe(pulled, "box", 1)
    finally:
        report.end()


def cache(link: Any) -> None:
    found = read_cache(link)
    cache_table.show([Asked(POD, found)])
    cache_table.as_json("box", found)


def load(link: Any) -> None:
    history = History()
    take_samples(link, history.add, 2)
    show("box", history)


def measured(link: Any) -> None:
    found = bench(link, "q", 4, 16, (1024, 256), lambda event: None)
    benchmarks.show(Result("q", "box", (1024, 256), (Level(4, found),)))


READ: dict[str, Callable[[Any], object]] = {
    "asked": last_asked_s_ago,
    "check": check_of,
    "audit": lambda link: recent_changes(link, 50),
    "status": status,
    "survey": survey,
    "start": start,
    "stop": stop,
    "scale": scale,
    "span": lambda link: span.look(link, planner.plan(REQUEST, pods.pod("h100", 1), CATALOG), "10.77.20.11"),
    "network": network.look,
    "logs": lambda link: follow_log(link, "q", lambda event: None),
    "explain": explained,
    "setup": setup,
    "key": lambda link: key_rows(read_keys(link)),
    "pull": pull,
    "cache": cache,
    "top": load,
    "bench": measured,
    "doctor": doctor.ask,
}


def places(shape: Any, value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any, bool]]:
    """Yield every place in a value of this shape, its type, and whether it must be there.

    Fills in optional keys; of a list or dict, the first element stands for all.
    """
    origin = get_origin(shape)
    if is_typeddict(shape):
        for key, kind in fields(shape).items():
            if key not in value:
                value[key] = sample(kind)
            yield (*above, key), kind, key in shape.__required_keys__
            yield from places(kind, value[key], (*above, key))
    elif origin is Union and value is not None:
        yield from places(get_args(shape)[0], value, above)
    elif origin in (list, dict):
        parts = list(enumerate(value) if isinstance(value, list) else value.items())
        for key, part in parts[:1]:
            yield (*above, key), get_args(shape)[-1], False
            yield from places(get_args(shape)[-1], part, (*above, key))


def sample(kind: Any) -> Any:
    """A value for an optional key that the captured answer lacks."""
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    return None if get_origin(kind) is Union else (get_origin(kind) or kind)()


def shape_of(call: str, event: dict[str, Any]) -> list[tuple[Any, Any, tuple[str, ...]]]:
    """The shapes of an event, each with the part of it that has the shape, and where that is."""
    shapes_of: list[tuple[Any, Any, tuple[str, ...]]] = [(EVENTS[event["event"]], event, ())]
    if event["event"] == "done":
        shapes_of.append((RESULTS[call], event["result"], ("result",)))
    if event["event"] == "failed":
        shapes_of.append((ERRORS[event["kind"]][0], event["detail"], ("detail",)))
    return shapes_of


def replaced(value: Any, place: tuple[Any, ...], by: Any) -> Any:
    """Return a copy of the value in which what stands at this place is replaced or missing."""
    key, *below = place
    changed = copy.copy(value)
    if below:
        changed[key] = replaced(value[key], tuple(below), by)
    elif by is MISSING:
        del changed[key]
    else:
        changed[key] = by
    return changed


CASES = [
    pytest.param(call, at, id=f"{call}: {event['event']} {at}")
    for call, events in ANSWERS.items()
    for at, event in enumerate(events)
]


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setattr(calls.start, "render", lambda *_, **values: "")  # what pi sends is of no matter, and slow
    monkeypatch.setattr(calls.setup, "_setup_files", lambda request: {})
    state.change(lambda known: State({"box": POD}, "box"))


def outcome(call: str, events: list[Any]) -> PiError | None:
    """What pi makes of a call that goes like this; any other exception would be a bug in pi."""
    try:
        READ.get(call, READ["status"])(Link(events))
    except PiError as error:
        return error
    return None


@pytest.mark.parametrize(("call", "at"), CASES)
def test_a_wrong_field_is_the_pods_wrong_answer(call: str, at: int, capsys: pytest.CaptureFixture[str]) -> None:
    events = ANSWERS[call]
    usual = outcome(call, events)
    assert usual is None or call.startswith("failed: ")
    tried = 0
    event = copy.deepcopy(events[at])
    for shape, part, above in shape_of(call, event):
        for place, kind, is_required in list(places(shape, part, above)):
            for name, value in share(list(WRONG.items()), f"{call} {at} {place}"):
                error = outcome(call, [*events[:at], replaced(event, place, value), *events[at + 1 :]])
                words = f"{'.'.join(map(str, place))} is {name}"
                if (is_required and value is MISSING) or (kind not in (Any, dict[str, Any]) and not fits(kind, value)):
                    assert error and error.exit_code == 1 and "wrong answer" in error.message, words
                state.load()
                tried += 1
        if above:
            error = outcome(call, [*events[:at], replaced(event, above, nested(200)), *events[at + 1 :]])
            assert error and error.exit_code == 1 and "wrong answer" in error.message
    assert tried >= len(WRONG) // SHARE
    assert len((state.path()).read_bytes()) < 2**16


def fits(kind: Any, value: Any) -> bool:
    """Whether a replacement may be right by its type; whether it is too large is asked of pi alone."""
    origin = get_origin(kind)
    if value is MISSING:
        return True
    if origin is Union:
        return value is None or fits(get_args(kind)[0], value)
    if origin is Literal:
        return value in get_args(kind)
    if origin is list:
        return isinstance(value, list) and all(fits(get_args(kind)[0], part) for part in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(get_args(kind)[1], part) for part in value.values())
    if is_typeddict(kind):
        return isinstance(value, dict) and kind.__required_keys__ <= value.keys()
    if kind is Any:
        return True
    return isinstance(value, (int, float) if kind is float else kind) and (kind is bool or value is not True)


def test_every_event_and_every_failure_has_an_answer() -> None:
    sent = [event for events in ANSWERS.values() for event in events]
    assert {event["event"] for event in sent} == set(EVENTS) - {"alive", "cancelling", "cancelled"}
    assert {event["kind"] for event in sent if event["event"] == "failed"} == set(get_args(FailureKind))
    assert set(ERRORS) == set(get_args(FailureKind)) and set(READERS) == set(EVENTS)


@pytest.mark.parametrize(
    "line", [b"[]", b"1", b"{", b"\xff", b"null", b'{"event": []}', b'{"event": "x"}', b"[" * 10**5, b"9" * 10**5]
)
def test_a_line_that_is_no_event_is_the_pods_wrong_answer(line: bytes) -> None:
    class Raw(Stream):
        def receive(self, timeout_s: float) -> bytes:
            return self.mark + b" " + line + b"\n"

    link: Any = Link([])
    link.source = Raw([])
    with pytest.raises(PiError, match="wrong answer") as raised:
        read_status(link)
    assert raised.value.exit_code == 1


def test_a_cancel_that_nobody_asked_for_is_not_an_interrupt() -> None:
    error = outcome("status", [{"event": "cancelled"}])
    assert error and (error.id, error.exit_code) == ("cancelled", 1)
