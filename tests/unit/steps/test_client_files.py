"""Settings files of clients on disk: written whole, behind links, with their mode, and restored."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from pi.clients.definitions import Endpoint, File, client
from pi.errors import InputError
from pi.steps import client_files

ENDPOINT = Endpoint("http://127.0.0.1:8001/v1", "qwen", 32768)

OTHERS = '{\n  "theme": "dark",\n  "provider": {\n    "other": {"options": {"apiKey": "sk-of-somebody"}}\n  }\n}\n'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PI_CONFIG_DIR", str(tmp_path / "pi"))
    for name in ("CODEX_HOME", "CLAUDE_CONFIG_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def file_of(name: str) -> File:
    file = client(name).file
    assert file
    return file


def write(name: str, endpoint: Endpoint = ENDPOINT, given: str | None = None) -> Path:
    return client_files.write(client(name), file_of(name), endpoint, given)[0]


def undo(name: str, model: str = "qwen") -> bool:
    return client_files.undo(client(name), file_of(name), model)[1]


def refused(name: str, endpoint: Endpoint = ENDPOINT, given: str | None = None) -> InputError:
    with pytest.raises(InputError) as error:
        write(name, endpoint, given)
    return error.value


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("name", ["opencode", "codex", "claude-code", "pi-agent", "llm", "continue", "zed", "aider"])
def test_a_new_file_is_private_and_undo_deletes_it(name: str) -> None:
    path = write(name)
    assert "qwen" in path.read_text() and mode(path) == 0o600
    assert {entry.name for entry in path.parent.iterdir()} <= {path.name, "pi"}
    assert undo(name) and not path.exists()


def test_other_providers_and_the_mode_stay_and_undo_restores_every_byte(home: Path) -> None:
    path = home / ".config" / "opencode" / "opencode.json"
    path.parent.mkdir(parents=True)
    path.write_text(OTHERS)
    path.chmod(0o640)
    assert write("opencode") == path
    document = json.loads(path.read_text())
    assert document["theme"] == "dark" and set(document["provider"]) == {"other", "pi-qwen"}
    assert mode(path) == 0o640
    assert all(mode(note) == 0o600 for note in (home / "pi" / "clients").iterdir())
    assert undo("opencode")
    assert path.read_text() == OTHERS and mode(path) == 0o640


def test_a_link_to_dotfiles_stays_a_link(home: Path) -> None:
    real = home / "dotfiles" / "settings.json"
    real.parent.mkdir()
    real.write_text('// mine\n{"theme": "dark"}\n')
    (home / ".claude").mkdir()
    (home / ".claude" / "settings.json").symlink_to("../dotfiles/settings.json")
    path = write("claude-code")
    assert path.is_symlink() and "apiKeyHelper" in real.read_text() and real.read_text().startswith("// mine\n")
    assert undo("claude-code") and path.is_symlink() and real.read_text() == '// mine\n{"theme": "dark"}\n'


def test_connecting_again_replaces_pis_part_only(home: Path) -> None:
    path = write("opencode")
    path.write_text(path.read_text().replace("{", '{\n  "theme": "dark",', 1))
    write("opencode", Endpoint("http://127.0.0.1:9000/v1", "qwen", 65536))
    document = json.loads(path.read_text())
    assert document["theme"] == "dark"
    assert document["provider"]["pi-qwen"]["models"]["qwen"]["limit"] == {"context": 65536, "output": 16384}
    assert undo("opencode") is True
    assert json.loads(path.read_text()) == {"theme": "dark"}


def test_two_models_live_side_by_side(home: Path) -> None:
    path = write("opencode")
    write("opencode", Endpoint("http://127.0.0.1:8002/v1", "glm", 8192))
    assert set(json.loads(path.read_text())["provider"]) == {"pi-qwen", "pi-glm"}
    undo("opencode")
    assert set(json.loads(path.read_text())["provider"]) == {"pi-glm"}


def test_a_second_model_where_only_one_fits_names_the_first() -> None:
    write("claude-code")
    error = refused("claude-code", Endpoint("http://127.0.0.1:8002/v1", "glm", 8192))
    assert (error.id, error.hint) == ("client-setting-taken", "first: pi connect qwen --to claude-code --undo")


def test_a_value_of_the_user_is_never_replaced(home: Path) -> None:
    (home / ".claude").mkdir()
    path = home / ".claude" / "settings.json"
    path.write_text('{"env": {"ANTHROPIC_BASE_URL": "http://mine"}}')
    assert refused("claude-code").message == f"{path} already has another env.ANTHROPIC_BASE_URL"
    assert path.read_text() == '{"env": {"ANTHROPIC_BASE_URL": "http://mine"}}'


def test_undo_leaves_a_part_that_the_user_changed(home: Path) -> None:
    path = write("codex")
    changed = path.read_text().replace('env_key = "PI_API_KEY"', 'env_key = "MINE"')
    path.write_text(changed)
    with pytest.raises(InputError) as error:
        undo("codex")
    assert error.value.id == "client-part-changed" and path.read_text() == changed


def test_undo_without_a_write_is_refused() -> None:
    with pytest.raises(InputError) as error:
        undo("codex")
    assert error.value.id == "client-not-connected"


def test_a_folder_of_the_clients_variable_and_a_given_file_are_used(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEX_HOME", str(home / "moved"))
    assert write("codex") == home / "moved" / "config.toml"
    error = refused("codex", given=str(home / "other.toml"))
    assert error.id == "client-connected-elsewhere" and not (home / "other.toml").exists()
    assert undo("codex")
    assert write("codex", given="~/other.toml") == home / "other.toml"


def test_the_folders_of_the_system_are_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "xdg"))
    assert client_files.place_of(file_of("opencode")) == home / "xdg" / "opencode" / "opencode.json"
    assert client_files.place_of(file_of("claude-code")) == home / ".claude" / "settings.json"
    monkeypatch.setattr("sys.platform", "darwin")
    assert str(client_files.place_of(file_of("llm"))).startswith(str(home / "Library"))


BROKEN = [
    (b'{"provider": ', "client-file-invalid"),
    (b"\xff\xfe{}", "client-file-invalid"),
    (b"\xef\xbb\xbf{}", "client-file-invalid"),
    (b" " * (client_files.LARGEST + 1), "client-file-large"),
]


@pytest.mark.parametrize(("content", "id"), BROKEN, ids=["half a file", "not UTF-8", "a BOM", "too large"])
def test_a_broken_file_is_one_line_and_stays(content: bytes, id: str, home: Path) -> None:
    path = home / ".config" / "opencode" / "opencode.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    error = refused("opencode")
    assert error.id == id and "\n" not in error.render() and str(path) in error.message
    assert path.read_bytes() == content and [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_folder_or_a_pipe_in_place_of_the_file_is_refused(home: Path) -> None:
    folder = home / ".claude" / "settings.json"
    folder.mkdir(parents=True)
    assert refused("claude-code").id == "client-file-unreadable"
    os.mkfifo(home / "pipe")
    assert refused("claude-code", given=str(home / "pipe")).id == "client-file-odd"


def test_yaml_of_the_user_is_not_changed(home: Path) -> None:
    path = home / ".continue" / "config.yaml"
    path.parent.mkdir()
    path.write_text("models: [] # mine\n")
    error = refused("continue")
    assert error.id == "client-file-exists" and path.read_text() == "models: [] # mine\n"
    other = write("continue", given=str(home / "pi.yaml"))
    other.write_text(other.read_text() + "# mine\n")
    with pytest.raises(InputError) as changed:
        undo("continue")
    assert changed.value.id == "client-part-changed" and other.exists()


def test_a_file_that_cannot_be_written_is_one_line(home: Path) -> None:
    (home / ".config").write_text("a file where a folder should be")
    assert refused("opencode").id in ("client-file-unreadable", "client-file-unwritable")
