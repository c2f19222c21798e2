"""What one rank of a model that spans pods needs beside vLLM's arguments."""

from __future__ import annotations


def variables(address: str, interface: str) -> dict[str, str]:
    """Return the environment of a rank whose pod has this private address at this interface.

    vLLM binds its message queues to VLLM_HOST_IP (vllm/distributed/device_communicators/shm_broadcast.py). gloo,
    tensorpipe and NCCL choose an interface by name; NCCL takes "=" for the exact name, else for a prefix (NCCL's
    guide, NCCL_SOCKET_IFNAME). Without them, they choose by the host's name, which may be another interface.
    """
    return {
        "VLLM_HOST_IP": address,
        "GLOO_SOCKET_IFNAME": interface,
        "TP_SOCKET_IFNAME": interface,
        "NCCL_SOCKET_IFNAME": f"={interface}",
    }
