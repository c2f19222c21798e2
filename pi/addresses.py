"""Where a deployment answers from outside its pod, and whether it does from here."""

from __future__ import annotations

import re

ADDRESS = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,39}"
"""A host name, an IPv4 or an IPv6 address."""


def url(host: str, port: int, public: dict[str, str]) -> str:
    """The base URL for OpenAI clients. `public` holds the provider's own port mapping, where it told one.

    Vast.ai and RunPod publish a pod's port under another number, or (RunPod) behind an HTTPS proxy. What a pod
    tells ends up in a line that users paste into a shell, so what is not plainly a port or address counts for nothing.
    """
    for provider, address in (("VAST", "PUBLIC_IPADDR"), ("RUNPOD", "RUNPOD_PUBLIC_IP")):
        mapped = public.get(f"{provider}_TCP_PORT_{port}", "")
        if re.fullmatch(r"[0-9]{1,5}", mapped):
            told = public.get(address, "")
            return f"http://{_bracketed(told if re.fullmatch(ADDRESS, told) else host)}:{mapped}/v1"
    if re.fullmatch(r"[A-Za-z0-9]{1,40}", public.get("RUNPOD_POD_ID", "")):
        return f"https://{public['RUNPOD_POD_ID']}-{port}.proxy.runpod.net/v1"
    return f"http://{_bracketed(host)}:{port}/v1"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def answers(base_url: str, timeout_s: float = 3) -> bool:
    """Whether the server's health page is reached from this machine."""
    import requests

    with requests.Session() as session:
        session.trust_env = False
        try:
            reply = session.get(base_url.removesuffix("/v1") + "/health", timeout=timeout_s, allow_redirects=False)
        except requests.RequestException:
            return False
        return reply.status_code == 200
