"""A stand-in for `hf download MODEL`: writes a model into the hub's cache, slowly and with progress, or fails.

`~/fault/hf.json` may contain `seconds` (the duration), `bytes` (size of the weights), `fail` (a key of
`FAILURES`, after half of the time), `hangs` (true: with xet no byte comes) and `config` (the model's config.json). A repository whose name ends with "-lora"
is an adapter. It writes its arguments into `~/received/hf.json`, and those of each repository into
`~/received/hf--OWNER--NAME.json`. It uses only the standard library, because tests copy it into a pod's `~/venv`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CHUNKS = 20

FAILURES = {
    "token": "Error: Client error '401 Unauthorized' for url 'https://huggingface.co/api/models/{model}/revision/main'\n"
    "For more information check: https://developer.mozilla.org/en-US/docs/Web/HTTP/Status/401\n\n"
    "Invalid credentials in Authorization header\nHint: set HF_DEBUG=1 as environment variable for full traceback.",
    "gated": "Error: Access denied. Model '{model}' requires approval.\n"
    "Hint: set HF_DEBUG=1 as environment variable for full traceback.",
    "not_found": "Error: Model '{model}' not found.\n"
    "If the repo is private, make sure you are authenticated and your token has the required permissions.\n"
    "If the repo does not exist, create it with: hf repos create {model}",
    "rate_limit": "Error: Local entry not found. 429 Too Many Requests for url: "
    "https://huggingface.co/api/models/{model}/revision/main.\nWe had to rate limit your IP",
    "disk_full": "Error: OSError: [Errno 28] No space left on device",
}
"""What the real command prints in these cases (huggingface_hub 2.4.0)."""


def main() -> None:
    if sys.argv[1:2] != ["download"]:
        sys.exit("usage: hf download REPO_ID ...")
    model, home = sys.argv[2], Path.home()
    settings = home / "fault" / "hf.json"
    fault: dict[str, Any] = json.loads(settings.read_text()) if settings.exists() else {}
    (home / "received").mkdir(exist_ok=True)
    for name in ("hf", f"hf--{model.replace('/', '--')}"):
        received = json.dumps({"argv": sys.argv[1:], "env": dict(os.environ)})
        (home / "received" / f"{name}.json").write_text(received)
    repo = hub_cache() / ("models--" + model.replace("/", "--"))
    if fault.get("hangs") and not os.environ.get("HF_HUB_DISABLE_XET"):
        time.sleep(600)
    try:
        fetch(repo / "blobs" / "weights.incomplete", fault)
    except OSError as error:
        sys.exit(f"Error: OSError: {error}")
    if failure := fault.get("fail"):
        sys.exit(FAILURES[failure].format(model=model))
    revision = next((word[11:] for word in sys.argv if word.startswith("--revision=")), "main")
    complete(repo, fault.get("config", {"max_position_embeddings": 8192}), revision)
    print(repo / "snapshots" / COMMIT)


def hub_cache() -> Path:
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


def fetch(blob: Path, fault: dict[str, Any]) -> None:
    """Write the weights in equal chunks over the given time, or only half of them before a failure.

    Like the real command, it continues a partial download and reports it.
    """
    size, seconds = fault.get("bytes", 1 << 20), fault.get("seconds", 0.0)
    blob.parent.mkdir(parents=True, exist_ok=True)
    with blob.open("ab") as file:
        there = file.tell() // (size // CHUNKS)
        if there:
            print(f"Resuming download at {there * (size // CHUNKS)} bytes", flush=True)
        for chunk in range(there, CHUNKS // 2 if fault.get("fail") else CHUNKS):
            file.write(bytes(size // CHUNKS))
            file.flush()
            print(f"model.safetensors: {100 * (chunk + 1) // CHUNKS}%", end="\r", file=sys.stderr, flush=True)
            time.sleep(seconds / CHUNKS)


def complete(repo: Path, config: dict[str, Any], revision: str) -> None:
    is_adapter = repo.name.endswith("-lora")
    names = ("adapter_model.safetensors", "adapter_config.json") if is_adapter else ("model.safetensors", "config.json")
    (repo / "blobs" / "weights.incomplete").replace(repo / "blobs" / "weights")
    (repo / "blobs" / "config").write_text(json.dumps(config))
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True, exist_ok=True)
    for name, blob in zip(names, ("weights", "config"), strict=True):
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
    (repo / "refs").mkdir(exist_ok=True)
    (repo / "refs" / revision).write_text(COMMIT)


if __name__ == "__main__":
    main()
