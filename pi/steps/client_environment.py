"""Environment variables by which clients find a model and its key."""

from __future__ import annotations

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_AUTH_TOKEN")
"""Variables with the key. A client of ANTHROPIC_API_KEY would send a header that vLLM does not read."""


def variables(base_url: str, model: str) -> dict[str, str]:
    """Return the variables without the key. Anthropic's clients add /v1 themselves, and use small models, too."""
    sizes = [f"ANTHROPIC_DEFAULT_{size}_MODEL" for size in ("OPUS", "SONNET", "HAIKU")]
    return {
        "OPENAI_BASE_URL": base_url,
        "OPENAI_MODEL": model,
        "ANTHROPIC_BASE_URL": base_url.removesuffix("/v1"),
        **dict.fromkeys(["ANTHROPIC_MODEL", *sizes], model),
    }
