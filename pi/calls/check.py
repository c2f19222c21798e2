"""`pods check` on the pod: what a machine has before its setup. Setup begins with the same questions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pi.calls.bootstrap import TRY_PYTHON
from pi.calls.call import Listener, call
from pi.calls.gpus import read_gpus
from pi.calls.survey import device_of, provider_of
from pi.on_pod.check_shapes import CheckAnswer, CheckRequest, FolderFacts
from pi.planning.preflight import Folder, Line, MachineFacts
from pi.pods import gpus
from pi.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pi.ssh.connection import Connection

INDEX = "https://pypi.org/simple"

INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")

SAMPLE = "numpy"
"""A package of every index, with wheels of 16 MB: long enough to measure a line."""

HUB = "https://huggingface.co"

HUB_SAMPLE = "gpt2/resolve/main/model.safetensors"
"""A public file of 548 MB; pi reads it for at most 1.5 s."""


def check(
    connection: Connection,
    mirrors: Mapping[str, str],
    models_path: str | None = None,
    listen: Listener = lambda event: None,
) -> MachineFacts:
    """Return what a machine has before its setup. Installs nothing, and changes nothing.

    `listen` gets an event as soon as pi's program runs on the machine.
    """
    asked = check_request(models_path, addresses(mirrors))
    return machine_facts(
        call(connection, "check", "check", asked, CheckAnswer, preparation=TRY_PYTHON, listen=listen), models_path
    )


def check_request(models_path: str | None, measured: list[str]) -> CheckRequest:
    return {"gpu_query": gpus.QUERY, "models_path": models_path, "addresses": measured}


def addresses(mirrors: Mapping[str, str]) -> list[str]:
    """Return the pages that show how fast the package index and the hub are, without passwords."""
    index = next(filter(None, map(mirrors.get, INDEX_VARIABLES)), INDEX)
    hub = mirrors.get("HF_ENDPOINT") or HUB
    return [f"{_without_login(index).rstrip('/')}/{SAMPLE}/", f"{_without_login(hub).rstrip('/')}/{HUB_SAMPLE}"]


def _without_login(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def machine_facts(answer: CheckAnswer, models_path: str | None) -> MachineFacts:
    """Return the answer of a check as pi judges it."""
    cards, unread = read_gpus(answer["gpus"])
    venv = answer["venv"]
    return MachineFacts(
        device=device_of(answer["gpus"], cards),
        gpus=tuple(cards),
        unread_gpus=unread,
        cuda=answer["cuda"],
        system=one_line(answer["system"], 80),
        arch=one_line(answer["arch"], 20),
        glibc=answer["glibc"],
        python=one_line(answer["python"], 20),
        user=one_line(answer["user"], 40),
        rights=answer["rights"],
        memory_mib=answer["memory_mib"],
        cpus=answer["cpus"],
        home=_folder(answer["home"]),
        temporary=_folder(answer["temporary"]),
        models=_folder(answer["models"]),
        programs=frozenset(answer["programs"]),
        has_apt=answer["has_apt"],
        package_lock=answer["package_lock"] and one_line(answer["package_lock"], 80),
        skew_s=answer["time_s"] - time.time(),
        vllm_version=answer["vllm_version"],
        venv=(venv["python"] or "") if venv else None,
        made_venv=bool(venv and venv["made_by_pi"]),
        hub_variables=answer["hub_variables"],
        ports=frozenset(answer["ports"]),
        public=answer["public"],
        provider=provider_of(answer.get("provider")),
        hides_variables=answer["hides_variables"],
        lines=tuple(
            Line(one_line(line["host"], 60), line["bytes_per_s"], line["problem"] and one_line(line["problem"], 120))
            for line in answer["lines"]
        ),
        models_path=models_path,
        boot=answer["boot"],
        machine=answer["machine"],
    )


def _folder(facts: FolderFacts) -> Folder:
    problem = facts["problem"]
    return Folder(one_line(facts["path"], 200), facts["free_bytes"], problem and one_line(problem), facts["runs"])
