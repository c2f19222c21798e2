"""What `pi connect` writes and prints for each client, for the golden files in tests/golden/clients."""

from __future__ import annotations

from pathlib import Path

from pi.clients.definitions import CLIENTS, Endpoint, client, filled, shown

FOLDER = Path(__file__).parents[1] / "tests" / "golden" / "clients"

ENDPOINT = Endpoint("http://127.0.0.1:8001/v1", "qwen", 131072)


def listing(name: str) -> str:
    """Return everything that the definition of a client makes for one model."""
    found = client(name)
    lines = [f"# source: {found.source}"]
    if found.file:
        lines += [f"# {found.file.path}", shown(found.file, ENDPOINT).rstrip()]
    lines += [f"{variable}={value}" for variable, value in filled(found.variables, ENDPOINT).items()]
    lines += [filled(found.text, ENDPOINT).strip()] if found.text else []
    lines += [f"# run: {filled(found.run, ENDPOINT)}"] if found.run else []
    return "".join(f"{line}\n" for line in lines)


def write_all() -> None:
    """Renew the golden files."""
    FOLDER.mkdir(exist_ok=True)
    for name in CLIENTS:
        (FOLDER / f"{name}.txt").write_text(listing(name), encoding="utf-8")
