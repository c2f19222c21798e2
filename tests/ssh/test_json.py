"""The JSON of verbs, held against the schemas of docs/json.md; and verbs on several pods at once."""

from __future__ import annotations

import json
import re
import subprocess
import time
from typing import Any

import pytest
from jsonschema import validate

from chores.json_schemas import shown
from tests.rig.command import KEY, Pi
from tests.rig.patience import patient
from tests.ssh.conftest import NewPod, Serving


def printed(pi: Pi, *words: str, code: int = 0) -> Any:
    done = pi(*words)
    assert done.code == code, done
    return json.loads(done.out)


def test_every_json_fits_its_schema(serving: Serving) -> None:
    pi = serving.pi
    listed = printed(pi, "list", "--json")
    validate(listed, shown("ListJson"))
    [model] = listed["pods"][0]["models"]
    assert (model["name"], model["state"], model["pid"]) == ("qwen", "running", pi.models("box")["qwen"]["pid"])
    assert 0 < model["ready_after_seconds"] < 300
    assert model["url"] == f"http://127.0.0.1:{model['port']}/v1"
    audit = printed(pi, "audit", "--json")
    validate(audit, shown("AuditJson"))
    assert audit["pods"][0]["changes"][-1]["command"] == "start"
    *lines, end = map(json.loads, pi.ok("logs", "qwen", "-n", "5", "--no-follow", "--json").splitlines())
    for line in lines:
        validate(line, shown("LogLineJson"))
    validate(end, shown("LogEndJson"))
    assert lines
    assert "".join(line["line"] + "\n" for line in lines) == pi.ok("logs", "qwen", "-n", "5", "--no-follow")
    waited = printed(pi, "wait", "qwen", "--json")
    validate(waited, shown("WaitJson"))
    assert waited["model"] == {**model, "up_seconds": waited["model"]["up_seconds"]}
    validate(printed(pi, "pods", "--all-pods", "--json"), shown("PodsJson"))
    validate(printed(pi, "pods", "check", "box", "--json"), shown("CheckJson"))
    explained = printed(pi, "explain", "qwen", "--json")
    validate(explained, shown("ExplainJson"))
    assert explained == {"cause": "qwen is running", "hint": "its log: pi logs qwen", "line": None}
    validate(printed(pi, "key", "list", "--json"), shown("KeysJson"))
    validate(printed(pi, "tunnel", "--list", "--json"), shown("TunnelsJson"))
    validate(printed(pi, "models", "--json", "smollm"), shown("Offer"))
    validate(printed(pi, "plan", serving.model, "--json"), shown("PlanJson"))
    validate(printed(pi, "plan", serving.model, "--json", "--gpus", "9", code=2), shown("RefusalJson"))


def test_env_prints_variables_for_a_shell(serving: Serving) -> None:
    pi = serving.pi
    port = pi.models("box")["qwen"]["port"]
    text = pi.ok("env", "qwen")
    assert KEY not in text
    asked = 'echo "$OPENAI_BASE_URL $OPENAI_API_KEY $OPENAI_MODEL $ANTHROPIC_BASE_URL $ANTHROPIC_AUTH_TOKEN"'
    told = subprocess.check_output(["sh", "-c", f"{text}{asked}"], env=pi.environment, text=True)
    assert told.split() == [f"http://127.0.0.1:{port}/v1", KEY, "qwen", f"http://127.0.0.1:{port}", KEY]
    assert f"export OPENAI_API_KEY={KEY}\n" in pi.ok("env", "qwen", "--show-key")
    document = printed(pi, "env", "qwen", "--json")
    validate(document, shown("EnvJson"))
    assert KEY not in json.dumps(document) and document["variables"]["OPENAI_MODEL"] == "qwen"
    assert KEY in printed(pi, "env", "qwen", "--json", "--show-key")["variables"].values()
    assert pi("env", "nobody").id == "unknown-name"


@pytest.mark.long
def test_all_pods_answer_at_once_and_a_dead_one_delays_nobody(pi: Pi, new_pod: NewPod) -> None:
    one, two = new_pod("one"), new_pod("two")
    pi.knows(one, two)
    pi.ok("start", one.model(), "--name", "qwen")
    state = pi.state()
    state["pods"]["dead"] = {"ssh": "ssh -p 1 root@127.0.0.1", "models": {}}
    pi.write(state)
    began = time.monotonic()
    done = pi("list", "--all-pods")
    assert time.monotonic() - began < patient(15)
    assert (done.code, done.id) == (1, "pods-failed")
    head, line = done.out.splitlines()[:2]
    assert head.split()[:2] == ["POD", "NAME"] and line.split()[:2] == ["one", "qwen"]
    assert "  two: up " in done.out
    assert "cannot reach pod 'dead'" in done.err and done.err.endswith("pi: 1 of 3 pods failed: dead\n")
    document = printed(pi, "list", "-p", "two,one", "--json")
    validate(document, shown("ListJson"))
    assert [(pod["pod"], len(pod["models"])) for pod in document["pods"]] == [("two", 0), ("one", 1)]
    done = pi("pods", "--all-pods")
    assert (done.code, done.id) == (1, "pods-failed")
    assert re.search(r"^  one: up .*\n  two: up .*\n  dead: did not answer$", done.out, re.M)
    document = json.loads(pi("pods", "-p", "one,dead", "--json").out)
    validate(document, shown("PodsJson"))
    one, dead = document["pods"]
    assert one["up_seconds"] is not None and one["error"] is None
    assert dead["up_seconds"] is None and dead["error"]["exit_code"] == 3
    changes = pi.ok("audit", "-p", "one,two")
    assert changes.splitlines()[0].split()[0] == "POD" and "no changes on two yet" in changes
    assert pi("list", "-p", "one,nowhere").id == "unknown-pod"
    model = pi.models("one")["qwen"]["model"]
    done = pi("plan", model, "--all-pods", "--json")
    plans = json.loads(done.out)
    validate(plans, shown("PlansJson"))
    assert (done.code, done.id) == (1, "pods-failed")
    assert [(each["pod"], each["plan"] is None, each["error"] is None) for each in plans["pods"]] == [
        ("one", False, True), ("two", False, True), ("dead", True, False),
    ]  # fmt: skip
    told = pi.ok("plan", model, "-p", "two,one")
    assert "None" not in told
    assert re.findall(r"^(one|two):$|^vllm serve", told, re.M) == ["two", "", "one", ""]
    offers = json.loads(pi("models", "smollm", "--all-pods", "--json").out)
    validate(offers, shown("OffersJson"))
    assert [bool(each["models"]) for each in offers["pods"]] == [True, True, False]
    assert re.findall(r"^(?:one|two):$", pi.ok("models", "smollm", "-p", "one,two"), re.M) == ["one:", "two:"]
    for words, shape, key, failed in (
        (("wait", "qwen", "--all-pods"), "WaitsJson", "ready", {"two", "dead"}),
        (("explain", "qwen", "-p", "one,two,dead"), "ExplainsJson", "explained", {"two", "dead"}),
        (("cache", "--all-pods"), "CachesJson", "cache", {"dead"}),
        (("pods", "check", "--all-pods"), "ChecksJson", "check", {"dead"}),
    ):
        done = pi(*words, "--json")
        document = json.loads(done.out)
        validate(document, shown(shape))
        assert (done.code, done.id) == (1, "pods-failed"), done
        assert [each["pod"] for each in document["pods"]] == ["one", "two", "dead"]
        assert {each["pod"] for each in document["pods"] if each["error"]} == failed
        assert {each["pod"] for each in document["pods"] if each[key] is None} == failed
    done = pi("doctor", "--all-pods", "--json")
    document = json.loads(done.out)
    validate(document, shown("DoctorsJson"))
    assert done.code == 1 and not document["ok"] and document["here"]
    assert [(each["pod"], each["checks"][0]["level"]) for each in document["pods"]] == [
        ("one", "ok"), ("two", "ok"), ("dead", "failure"),
    ]  # fmt: skip
    assert pi.ok("wait", "qwen").startswith("qwen is ready on one at http://")
    assert pi("env", "qwen", "--pod", "one,two").id == "one-pod"
    assert "works on one pod at a time" in pi("env", "qwen", "--all-pods").err
    done = pi("logs", "qwen", "-p", "one,two", "--no-follow")
    assert (done.code, done.id) == (1, "pods-failed") and "qwen has no log" in done.err
    assert done.out and all(line.startswith("one: ") for line in done.out.splitlines())
    *lines, end = map(json.loads, pi("logs", "qwen", "-p", "one,two", "--no-follow", "--json").out.splitlines())
    for line in lines:
        validate(line, shown("LogLineJson"))
    validate(end, shown("LogEndJson"))
    assert {line["pod"] for line in [*lines, end]} == {"one"}
    asks = pi("stop", "--all-pods")
    assert (asks.code, asks.id) == (2, "stop-unconfirmed") and "  one: qwen\n" in asks.err
    assert "running" in pi.ok("list")
    stops = pi("stop", "--all-pods", "-y")
    assert (stops.code, stops.id, stops.out) == (1, "pods-failed", "one: qwen is stopped\n")
    assert pi.models("one") == {}
    assert pi.ok("stop", "-p", "one,two", "-y") == "no model runs on these 2 pods\n"
