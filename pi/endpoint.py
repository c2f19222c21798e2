"""Where a deployment answers from outside its pod, and whether it does from here."""

from __future__ import annotations


def url(host: str, port: int, public: dict[str, str]) -> str:
    """The base URL for OpenAI clients. `public` holds the provider's own port mapping, where it told one.

    Vast.ai and RunPod publish a pod's port under another number, or (RunPod) behind an HTTPS proxy.
    """
    for provider, address in (("VAST", "PUBLIC_IPADDR"), ("RUNPOD", "RUNPOD_PUBLIC_IP")):
        mapped = public.get(f"{provider}_TCP_PORT_{port}", "")
        if mapped.isdecimal():
            return f"http://{public.get(address) or host}:{mapped}/v1"
    if public.get("RUNPOD_POD_ID", "").isalnum():
        return f"https://{public['RUNPOD_POD_ID']}-{port}.proxy.runpod.net/v1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


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
