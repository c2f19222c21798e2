"""Show what a check of a machine found, as text or as JSON."""

from __future__ import annotations

from pi import config, screen
from pi.planning import catalog, machines, offers
from pi.planning.preflight import INSTALLED_GB, Finding, Findings, Folder, Line, MachineFacts, download_gb, gpus_line
from pi.planning.types import FIRST_PORT, PodFacts
from pi.steps.machine_json import CheckJson, FindingJson
from pi.steps.pod_summary import gpu_kinds

SHOWN = 5
"""How many models that fit are named."""

PORTS = 9
"""How many ports from 8001 on are looked at."""

RIGHTS = {"root": "root", "sudo": "sudo without a password", "none": "neither root nor sudo"}

INSTALL_S = {"cuda": 180, "cpu": 120}
"""About how long setup works besides the download: unpacking, checks."""


def machine_line(facts: MachineFacts) -> str:
    """Describe a machine in one line, as a setup begins."""
    memory = f"{facts.memory_mib / 1024:.0f} GB of memory"
    return f"{facts.system}, {RIGHTS[facts.rights]}, {memory}, {facts.home.free_gb:.0f} GB free; {gpus_line(facts)}"


def show_connection(opened_s: float, began_s: float) -> None:
    """Print how long ssh took to connect, and then the account's start-up files and Python."""
    _row("ssh", f"connected after {opened_s:.1f} s; start-up files and Python took {began_s:.1f} s")


def show(facts: MachineFacts, found: Findings) -> None:
    """Print the facts of a machine, then what stands in the way of its setup."""
    rows = [
        ("system", f"{facts.system}, {facts.arch}, {_glibc(facts)}, Python {facts.python}"),
        ("rights", f"{facts.user}: {RIGHTS[facts.rights]}"),
        ("GPUs", gpus(facts)),
        ("memory", f"{facts.memory_mib / 1024:.0f} GB, {facts.cpus} CPUs"),
        ("disk", f"{space(facts.home)}; models: {space(facts.models)}"),
        ("ports", ports(facts)),
        ("network", "; ".join(map(speed, facts.lines)) or "not measured"),
        ("vLLM", f"{facts.vllm_version} in ~/venv" if facts.vllm_version else _venv(facts)),
        ("setup", _work(facts)),
        ("fits", ", ".join(fitting(facts)) or "no model of the catalog"),
    ]
    for name, text in rows:
        _row(name, text)
    for each in found.notes:
        screen.say(f"note: {each.text}{f'; {each.hint}' if each.hint else ''}")


def _row(name: str, text: str) -> None:
    screen.say(f"  {name:9}{text}")


def as_json(facts: MachineFacts, found: Findings) -> CheckJson:
    """Return the facts and the findings for scripts."""
    return {
        "ok": not found.stops,
        "problems": list(map(_finding, found.stops)),
        "notes": list(map(_finding, found.notes)),
        "device": facts.device,
        "gpus": [{"id": gpu.id, "name": gpu.name, "memory_mib": gpu.memory_mib} for gpu in facts.gpus],
        "cuda": facts.cuda,
        "system": facts.system,
        "arch": facts.arch,
        "glibc": facts.glibc,
        "python": facts.python,
        "user": facts.user,
        "rights": facts.rights,
        "memory_mib": facts.memory_mib,
        "cpus": facts.cpus,
        "disk_free_bytes": {"home": facts.home.free_bytes, "models": facts.models.free_bytes},
        "taken_ports": sorted(facts.ports),
        "mapped_ports": dict(facts.public),
        "network": [
            {"host": line.host, "bytes_per_s": line.bytes_per_s, "problem": line.problem} for line in facts.lines
        ],
        "vllm_version": facts.vllm_version,
        "download_gb": download_gb(facts),
        "setup_s": seconds_of_setup(facts),
        "fits": fitting(facts),
    }


def _finding(found: Finding) -> FindingJson:
    return {"step": found.step, "text": found.text, "hint": found.hint}


def fitting(facts: MachineFacts) -> list[str]:
    """Return the ids of the first models of the catalog that fit the machine, idle and with pi's newest vLLM."""
    if facts.device not in ("cuda", "cpu"):
        return []
    known_models = catalog.load(config.config_dir())
    idle = PodFacts(
        gpus=facts.gpus,
        memory_mib=facts.memory_mib,
        cpus=facts.cpus,
        disk_free_gib=facts.models.free_bytes / 2**30,
        vllm_version=machines.newest_vllm(known_models),
        device=facts.device,
    )
    found = [offer for offer in offers.offers(known_models, idle) if offer.state == offers.FITS]
    return [offer.model for offer in sorted(found, key=lambda offer: -(offer.gib or 0))[:SHOWN]]


def seconds_of_setup(facts: MachineFacts) -> int | None:
    """Return about how long setup takes; None if the line to the index was not measured."""
    speed = facts.lines[0].bytes_per_s if facts.lines else None
    kind = "cpu" if facts.device == "cpu" else "cuda"
    if facts.has_vllm:
        return 10
    return round(download_gb(facts) * 1e9 / speed + INSTALL_S[kind]) if speed else None


def _glibc(facts: MachineFacts) -> str:
    return f"glibc {facts.glibc}" if facts.glibc else "no GNU C library"


def gpus(facts: MachineFacts) -> str:
    if facts.device != "cuda":
        return "none"
    return f"{gpu_kinds(facts.gpus)}, the driver supports CUDA up to {facts.cuda or 'unknown'}"


def space(folder: Folder) -> str:
    return f"{folder.path}: {folder.problem}" if folder.problem else f"{folder.free_gb:.0f} GB free in {folder.path}"


def ports(facts: MachineFacts) -> str:
    taken = [port for port in range(FIRST_PORT, FIRST_PORT + PORTS) if port in facts.ports]
    text = f"{FIRST_PORT} to {FIRST_PORT + PORTS - 1} are free"
    if taken:
        text = f"{', '.join(map(str, taken))} taken"
    mapped = {name.rpartition("_")[2]: port for name, port in facts.public.items() if "_TCP_PORT_" in name}
    if mapped:
        pairs = [f"{inside} to {outside}" for inside, outside in sorted(mapped.items())]
        text += f"; the provider maps {', '.join(pairs)}"
    return text


def speed(line: Line) -> str:
    if line.problem:
        return f"{line.host}: {line.problem}"
    return f"{line.host}: {line.bytes_per_s / 1e6:.0f} MB/s" if line.bytes_per_s else f"{line.host}: reached"


def _venv(facts: MachineFacts) -> str:
    if facts.venv is None:
        return "none"
    return f"none; ~/venv has Python {facts.venv}" if facts.venv else "none; the Python of ~/venv does not run"


def _work(facts: MachineFacts) -> str:
    if facts.has_vllm:
        return "vLLM is installed; setup checks it in seconds"
    takes = seconds_of_setup(facts)
    time = f", about {screen.seconds(takes)}" if takes else ""
    kind = "cpu" if facts.device == "cpu" else "cuda"
    return f"downloads about {download_gb(facts):g} GB{time}; it takes {INSTALLED_GB[kind]:g} GB of disk"
