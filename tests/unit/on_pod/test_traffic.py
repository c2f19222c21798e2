"""How much the installers of a setup have downloaded, from a stand-in for /proc/net/dev."""

from __future__ import annotations

from pathlib import Path

import pytest

from pi.on_pod import traffic

HEAD = "Inter-|   Receive\n face |bytes    packets\n"


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_bytes_come_with_speed_and_the_sizes_that_uv_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, clock = tmp_path / "dev", Clock()

    def receives(mib: int) -> None:
        table.write_text(f"{HEAD}    lo: 999999999999 1\n  eth0:{1000 + mib * 2**20} 7 0\n  eth1: 0 0\n")

    monkeypatch.setattr(traffic, "TABLE", str(table))
    monkeypatch.setattr(traffic, "time", clock)
    receives(0)
    count = traffic.Traffic()
    count.read("Downloading torch (528.9MiB)")
    count.read(" Downloading vllm (320.5 MiB)")
    count.read("Downloaded torch")
    assert count.event() is None
    clock.now += 1
    receives(2)
    assert count.event() is None, "talk with an index"
    clock.now += 1
    receives(100)
    total = int(528.9 * 2**20) + int(320.5 * 2**20)
    assert count.event() == {"event": "download", "bytes": 100 * 2**20, "bytes_per_s": 50 * 2**20, "total": total}
    assert count.event() is None, "once a second"
    clock.now += 1
    assert count.event() is None, "nothing came"
    clock.now += 1
    receives(5000)
    done = count.event()
    assert done and done["bytes"] == total
    count.begin()
    clock.now += 1
    receives(5100)
    assert count.event() == {"event": "download", "bytes": 100 * 2**20, "bytes_per_s": 100 * 2**20, "total": None}


def test_a_pod_without_the_table_reports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "TABLE", str(tmp_path / "missing"))
    assert traffic.received() == 0
