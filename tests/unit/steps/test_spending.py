"""What pods cost, and the reminder of pods that pi knows no use of."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pi import screen
from pi.calls.setup import SetupFacts
from pi.errors import InputError
from pi.pods import state
from pi.pods.gpus import Gpu
from pi.pods.types import Deployment, Pod, State
from pi.steps import pod_entry, spending

H100 = Gpu(0, "H100 80GB HBM3", 81559)
HOUR = 3600


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pi's folder; notes appear on a terminal."""
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path))
    monkeypatch.setattr(screen, "has_terminal", lambda: True)
    return tmp_path


def pod(name: str = "box", price: float | None = 2.5, set_up_h: float | None = 10, **fields: object) -> Pod:
    set_up_at = None if set_up_h is None else time.time() - set_up_h * HOUR
    return replace(Pod(name, f"ssh {name}", price=price, set_up_at=set_up_at), **fields)  # type: ignore[arg-type]


def known(*pods: Pod) -> None:
    state.change(lambda _: State({each.name: each for each in pods}))


@pytest.mark.parametrize("text", ["2.49", "$2.49", "2.49/h", "€2.49/hr", " 2.49 ", "2.490"])
def test_a_price_is_read_as_people_paste_it(text: str) -> None:
    assert spending.parse_price(text) == 2.49


@pytest.mark.parametrize("text", ["", "x", "-1", "2,49", "1e3", "inf", "nan", "2.49/day", "9" * 10, "٢"])
def test_a_price_that_cannot_be_read_is_rejected(text: str) -> None:
    with pytest.raises(InputError) as caught:
        spending.parse_price(text)
    assert caught.value.id == "pod-price-invalid"


def test_hours_and_cost_are_counted_since_setup() -> None:
    assert spending.since_setup(pod(), 2.5) == ("10.0", "25.00")
    assert spending.since_setup(pod(), None) == ("10.0", "-")
    assert spending.since_setup(pod(set_up_h=None), 2.5) == ("-", "-")
    assert spending.since_setup(pod(set_up_h=-5), 2.5) == ("0.0", "0.00")


def test_a_pod_without_a_model_is_named_with_its_cost(capsys: pytest.CaptureFixture[str]) -> None:
    model = Deployment("qwen", "a/b", 8001, (0,), 77)
    known(pod(), pod("lab", price=None), pod("busy", models={"qwen": model}))
    spending.note_empty(["box", "lab", "busy", "box", "gone"])
    bills = "the machine keeps running (and billing) until you end it at the provider"
    assert capsys.readouterr().err.splitlines() == [
        f"no model is left on box; {bills}; 25.00 since setup (2.50 per hour)",
        f"no model is left on lab; {bills}",
    ]


def test_prices_toml_prices_the_gpus_of_a_pod_without_a_price(folder: Path) -> None:
    two = pod(price=None, gpus=(H100, replace(H100, id=1)))
    assert spending.per_hour(two) is None
    (folder / "prices.toml").write_text("h100 = 2.0\n")
    assert spending.per_hour(two) == 4.0
    assert spending.per_hour(replace(two, price=2.49)) == 2.49
    mixed = replace(two, gpus=(H100, Gpu(1, "Tesla P40", 24576)))
    assert spending.per_hour(mixed) is None


def test_setup_keeps_price_and_time_until_another_machine_replaces_the_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    def set_up(machine: str, price: float | None = None) -> Pod:
        facts = SetupFacts((), "0.32.0", {}, None, "3.12", boot="b/1", machine=machine)
        return pod_entry.remember_setup(Pod("box", "ssh box"), facts, "ssh-ed25519 SHA256:x", price)

    now = 1_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    first = set_up("m1", 2.49)
    assert (first.price, first.set_up_at) == (2.49, now)
    now += HOUR
    again = set_up("m1")
    assert (again.price, again.set_up_at) == (2.49, now - HOUR)
    assert spending.since_setup(again, again.price) == ("1.0", "2.49")
    replaced = replace(again, boot="b/0")
    state.change(lambda before: before.with_pod(replaced))
    other = set_up("m2", 1.0)
    assert (other.price, other.set_up_at) == (1.0, now)


def test_broken_prices_cost_a_note_and_no_list_of_pods(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "prices.toml").write_text("h100 = 'cheap'\n")
    pods = {"a": pod(price=None, gpus=(H100,)), "b": pod()}
    assert spending.prices(pods) == {"a": None, "b": 2.5}
    assert "ignoring your prices: " in capsys.readouterr().err


def test_cost_is_said_where_billing_is() -> None:
    assert spending.still_bills(pod()) == f"{spending.BILLING}; 25.00 since setup (2.50 per hour)"
    assert spending.still_bills(pod(price=None)) == spending.BILLING


def test_an_idle_pod_is_named_once_an_hour(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    known(pod())
    spending.remind(ask=False)
    assert capsys.readouterr().err == f"box: no request known for 10 h; the machine {spending.still_bills(pod())}\n"
    spending.remind(ask=False)
    assert capsys.readouterr().err == ""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + HOUR + 1)
    spending.remind(ask=False)
    assert "box: no request known for 11 h" in capsys.readouterr().err


QUIET = {
    "a pod that was set up an hour ago": pod(set_up_h=1),
    "a pod without a price": pod(price=None),
    "a pod that costs nothing": pod(price=0.0),
    "a pod of an older setup": pod(set_up_h=None),
}


@pytest.mark.parametrize("quiet", QUIET.values(), ids=QUIET)
def test_pod_is_not_named(quiet: Pod, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    known(quiet)
    spending.remind(ask=False)
    assert capsys.readouterr().err == ""
    assert not (folder / spending.FILE).exists()


def test_nothing_is_said_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known(pod())
    monkeypatch.setattr(screen, "has_terminal", lambda: False)
    spending.remind(ask=False)
    assert capsys.readouterr().err == ""


def test_use_of_a_pod_counts_also_under_another_name(capsys: pytest.CaptureFixture[str]) -> None:
    with spending.used(pod(machine="m1")):
        pass
    known(pod("other", machine="m1"), pod("idle"))
    spending.remind(ask=False)
    assert capsys.readouterr().err.startswith("idle: ")


@pytest.mark.parametrize(
    ("ages", "is_idle"),
    [((None,), True), ((None, 9.0 * HOUR), True), ((3.0 * HOUR, 60.0), False), ((), True)],
    ids=["no request", "long ago", "a minute ago", "no model"],
)
def test_requests_that_the_guards_noted_count_as_use(
    ages: tuple[float | None, ...], is_idle: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    known(pod())
    found = [SimpleNamespace(asked_s_ago=age) for age in ages]
    spending.note_asked(pod(), SimpleNamespace(found=found))  # type: ignore[arg-type]
    spending.remind(ask=False)
    assert ("no request known" in capsys.readouterr().err) is is_idle


def test_two_names_of_one_machine_are_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    known(pod("a", boot="b/1"), pod("b", boot="b/1"))
    spending.remind(ask=False)
    assert capsys.readouterr().err.splitlines()[0].startswith("a: ")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"used": 1}', '{"used": {"ssh box": "x"}, "reminded": []}'])
def test_a_damaged_file_costs_a_reminder(text: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / spending.FILE).write_text(text)
    known(pod())
    spending.remind(ask=False)
    assert "no request known" in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["pods.json", "prices.toml"])
def test_a_broken_file_of_the_user_is_not_the_reminders_business(
    broken: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known(pod(price=None, gpus=(H100,)))
    (folder / broken).write_text("{")
    spending.remind(ask=False)
    assert capsys.readouterr().err == ""


def test_a_folder_that_cannot_be_written_ends_nothing(folder: Path) -> None:
    known(pod())
    (folder / spending.FILE).mkdir()
    spending.remind(ask=False)
    spending.note_use(pod())
