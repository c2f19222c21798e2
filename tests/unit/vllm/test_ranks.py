"""The environment of a rank."""

from __future__ import annotations

from pi.vllm.ranks import variables


def test_a_rank_uses_the_private_interface_for_all_that_it_opens() -> None:
    assert variables("10.0.0.7", "eth1") == {
        "VLLM_HOST_IP": "10.0.0.7",
        "GLOO_SOCKET_IFNAME": "eth1",
        "TP_SOCKET_IFNAME": "eth1",
        "NCCL_SOCKET_IFNAME": "=eth1",
    }
