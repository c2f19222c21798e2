"""The URL of a deployment outside its pod."""

from __future__ import annotations

import re

ADDRESS = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,39}"
"""A host name, an IPv4 or an IPv6 address."""


def url(host: str, port: int, public: dict[str, str]) -> str:
    """Return the base URL for OpenAI clients. `public` contains the provider's port mapping, if the pod has one.

    Vast.ai and RunPod publish a pod's port under another number, or (RunPod) behind an HTTPS proxy. Users paste
    the URL into a shell, so anything that is not a port or an address is ignored.
    """
    for provider, address in (("VAST", "PUBLIC_IPADDR"), ("RUNPOD", "RUNPOD_PUBLIC_IP")):
        mapped = public.get(f"{provider}_TCP_PORT_{port}", "")
        if re.fullmatch(r"[0-9]{1,5}", mapped):
            published = public.get(address, "")
            return f"http://{_bracketed(published if re.fullmatch(ADDRESS, published) else host)}:{mapped}/v1"
    if re.fullmatch(r"[A-Za-z0-9]{1,40}", public.get("RUNPOD_POD_ID", "")):
        return f"https://{public['RUNPOD_POD_ID']}-{port}.proxy.runpod.net/v1"
    return f"http://{_bracketed(host)}:{port}/v1"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
