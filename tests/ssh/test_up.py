"""`pi up`, `pi down` and `pi export`: what pi.toml declares is what runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rig import invariants, killing
from tests.rig.command import Pi
from tests.rig.pod import Pod, is_alive, kill, until
from tests.ssh.conftest import NewPod


def declare(folder: Path, models: dict[str, str]) -> str:
    """Write a file with these models of `box`, each with the lines of its table. Returns its path."""
    file = folder / "pi.toml"
    file.write_text("".join(f"[pods.box.models.{name}]\n{lines}\n" for name, lines in models.items()))
    return str(file)


@pytest.mark.long
def test_models_come_up_as_declared_and_only_what_differs_changes(pi: Pi, box: Pod, tmp_path: Path) -> None:
    model = f'model = "{box.model()}"'
    pi.ok("start", box.model("x"), "--name", "other")
    file = declare(tmp_path, {"a": f'{model}\ncontext = "4k"', "b": model})
    plan = pi.ok("up", file, "--dry-run")
    assert "start   box/a: " in plan and "leave   box/other: " in plan and "2 changes; to make them" in plan
    assert list(pi.models("box")) == ["other"]
    assert pi.ok("up", file).endswith("2 models up, 2 changed\n")
    pids = {name: entry["pid"] for name, entry in pi.models("box").items()}
    again = pi.ok("up", file)
    assert "keep    box/a: it is running, as declared" in again and again.endswith("2 models up, 0 changed\n")
    kill(pids["b"])
    assert until((box.home / ".pi/run/b/exit").exists)
    file = declare(tmp_path, {"a": f'{model}\ncontext = "2k"', "b": model})
    changed = pi.ok("up", file)
    assert "restart box/a: context is 4k, declared 2k" in changed and "start   box/b: it crashed" in changed
    assert not is_alive(pids["a"]) and is_alive(pids["other"])
    exported = pi.ok("export")
    (tmp_path / "exported.toml").write_text(exported)
    planned = pi.ok("up", str(tmp_path / "exported.toml"), "--dry-run")
    assert planned.count("as declared") == 3 and planned.endswith("\nnothing to do\n")
    assert pi("down", file).id == "stop-unconfirmed"
    text = pi.ok("down", file, "-y")
    assert "a is stopped" in text and "b is stopped" in text
    assert list(pi.models("box")) == ["other"]
    assert "none of these models" in pi.ok("down", file, "-y")


def test_a_model_that_fails_does_not_hold_up_the_others(pi: Pi, box: Pod, new_pod: NewPod, tmp_path: Path) -> None:
    gone = new_pod("gone")
    pi.knows(box, gone)
    gone.down()
    file = declare(tmp_path, {"bad": 'model = "/models/none"', "good": f'model = "{box.model()}"'})
    with Path(file).open("a") as opened:
        opened.write('[pods.gone.models.far]\nmodel = "a/b"\n')
    done = pi("up", file)
    assert (done.code, done.id) == (1, "models-failed")
    assert "2 of 3 models did not come up: gone/far, box/bad" in done.err
    assert list(pi.models("box")) == ["good"]


@pytest.mark.slow
def test_an_up_that_was_killed_at_any_step_repeats_cleanly(pi: Pi, box: Pod, tmp_path: Path) -> None:
    """Each killed `up` would restart the model with another context, and the next one ends as declared."""
    model = box.model()

    def declared(number: int) -> str:
        return declare(tmp_path, {"a": f'model = "{model}"\ncontext = "{4 + number % 2}k"'})

    pi.ok("start", model, "--name", "bystander", "--memory", "20%")
    bystander = pi.models("box")["bystander"]["pid"]
    pi.ok("up", declared(0))
    pi.ok("up", declared(1), PI_TEST_KILL=killing.value(tmp_path / "all"))
    steps = (tmp_path / "all").read_text().splitlines()
    assert {"status: Done", "stop: Done", "start: Surveyed", "start: Launched", "start: Done"} <= set(steps)
    for number in range(1, len(steps) + 1):
        file = declared(number + 1)
        assert pi("up", file, PI_TEST_KILL=killing.value(tmp_path / str(number), number)).code == -9
        step = (tmp_path / str(number)).read_text().splitlines()[-1]
        assert pi("up", file).code == 0, step
        pi.ok("wait", "a")
        assert pi.ok("up", file).endswith("1 model up, 0 changed\n"), step
        servers = [words for words in box.processes().values() if "vllm serve" in words and words.startswith("/")]
        assert len(servers) == 2 and box.records() == ["a", "bystander"], step
        assert sorted(pi.models("box")) == ["a", "bystander"], step
        assert is_alive(bystander) and until(lambda: not box.other_processes()), step
    invariants.hold([pi], [box])
