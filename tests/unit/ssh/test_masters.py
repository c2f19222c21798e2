"""How long a warm connection stays: the environment, then config.toml, then 60 s."""

from __future__ import annotations

from pathlib import Path

import pytest

from pi.errors import InputError
from pi.ssh.masters import PERSIST_S, persist_s


@pytest.mark.parametrize(
    ("variable", "settings", "seconds"),
    [
        pytest.param(None, None, PERSIST_S, id="neither"),
        pytest.param(None, "catalog_url = 'x'", PERSIST_S, id="another setting"),
        pytest.param("0", None, 0, id="the variable switches it off"),
        pytest.param(None, "ssh_persist = 0", 0, id="the setting switches it off"),
        pytest.param(None, "ssh_persist = '300'", 300, id="the setting as a text"),
        pytest.param("5", "ssh_persist = 0", 5, id="the variable is stronger"),
    ],
)
def test_seconds_of_a_warm_connection(
    variable: str | None, settings: str | None, seconds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PI_SSH_PERSIST", raising=False)
    if variable is not None:
        monkeypatch.setenv("PI_SSH_PERSIST", variable)
    if settings is not None:
        (tmp_path / "config.toml").write_text(settings)
    assert persist_s(tmp_path) == seconds


@pytest.mark.parametrize("value", ["-1", "true", "0.5", "100000", "'soon'", "'٣'", "[]"])
def test_a_setting_that_is_not_a_number_of_seconds_is_rejected(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PI_SSH_PERSIST", raising=False)
    (tmp_path / "config.toml").write_text(f"ssh_persist = {value}")
    with pytest.raises(InputError, match=r"ssh_persist .* is not a number of seconds") as refused:
        persist_s(tmp_path)
    assert refused.value.id == "persist-invalid"
