"""`pi models --refresh`: a newer catalog from a file or an address, checked before it replaces the old one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.rig.command import Pi

CATALOG = """date = "{date}"
[model."me/new"]
parameters = 7
context = 32768
source = "me"
variants.fp8 = {{ precision = "fp8" }}
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def published(folder: Path, text: str = CATALOG.format(date="2099-01-01"), *, with_sum: bool = True) -> Path:
    file = folder / "published.toml"
    file.write_text(text)
    if with_sum:
        (folder / "published.toml.sha256").write_text(f"{digest(text)}  published.toml\n")
    return file


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def settings(pi: Pi, text: str) -> None:
    pi.config.mkdir(exist_ok=True)
    (pi.config / "config.toml").write_text(text)


def kept(pi: Pi) -> Path:
    return pi.config / "catalog" / "models.toml"


def test_catalog_from_a_file_replaces_the_shipped_one(pi: Pi, tmp_path: Path) -> None:
    assert "catalog of 2026-08-21, " in pi.ok("models", "qwen3-coder")
    output = pi.ok("models", "--refresh", str(published(tmp_path)))
    assert output == "catalog of 2099-01-01: 1 model (before: 2026-08-21)\n"
    listed = pi.ok("models")
    assert "me/new" in listed and "Qwen" not in listed and "catalog of 2099-01-01\n" in listed


def test_catalog_from_the_address_in_the_settings(pi: Pi, tmp_path: Path) -> None:
    published(tmp_path)
    with served(tmp_path) as address:
        settings(pi, f'catalog_url = "{address}/published.toml"\n')
        assert pi.ok("models", "--refresh").startswith("catalog of 2099-01-01: 1 model")


def test_checksum_on_the_command_line(pi: Pi, tmp_path: Path) -> None:
    file = published(tmp_path, with_sum=False)
    done = pi("models", "--refresh", str(file))
    assert (done.code, f"{file} has no checksum" in done.err) == (2, True)
    pi.ok("models", "--refresh", str(file), "--sha256", digest(file.read_text()).upper())
    assert kept(pi).read_text() == file.read_text()


def test_refresh_without_a_source_says_what_to_do(pi: Pi) -> None:
    done = pi("models", "--refresh")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "needs the file or the https:// address of a catalog" in done.err and "catalog_url" in done.err


REJECTED = {
    "a wrong checksum": ("", CATALOG.format(date="2099-01-01"), "does not have the checksum"),
    "a broken file": ("broken", "[model", "published.toml: "),
    "environment": ("env", CATALOG.format(date="2099-01-01") + 'env = { A = "1" }\n', "env"),
    "an older one": ("older", CATALOG.format(date="2020-01-01"), "is of 2020-01-01; pi has the catalog of 2099-01-01"),
}


@pytest.mark.parametrize(("name", "text", "part"), REJECTED.values(), ids=REJECTED)
def test_rejected_catalog_leaves_the_one_in_use(pi: Pi, tmp_path: Path, name: str, text: str, part: str) -> None:
    pi.ok("models", "--refresh", str(published(tmp_path)))
    before = kept(pi).read_bytes()
    file = published(tmp_path, text)
    if not name:
        (tmp_path / "published.toml.sha256").write_text("0" * 64)
    done = pi("models", "--refresh", str(file))
    assert done.code == 2 and part in done.err
    assert kept(pi).read_bytes() == before
    assert [path.name for path in kept(pi).parent.iterdir()] == ["models.toml"]


UNUSABLE = {
    "no TLS": (("http://example.com/c.toml",), 1, "is not an https:// address"),
    "a file that does not exist": (("/no/such.toml",), 2, "/no/such.toml does not exist"),
    "two files": (("a.toml", "b.toml"), 2, "takes one file or URL"),
    "a checksum that is not one": ((__file__, "--sha256", "12"), 2, "is not a SHA-256"),
}


@pytest.mark.parametrize(("words", "code", "part"), UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_source_is_named(pi: Pi, words: tuple[str, ...], code: int, part: str) -> None:
    done = pi("models", "--refresh", *words)
    assert (done.code, part in done.err) == (code, True), done.err


def test_checksum_needs_refresh(pi: Pi) -> None:
    assert "--sha256 requires --refresh" in pi("models", "--sha256", "0" * 64).err


def test_invalid_settings_are_named(pi: Pi) -> None:
    settings(pi, "catalog_url = 5\n")
    done = pi("models", "--refresh")
    assert (done.code, f"{pi.config}/config.toml: catalog_url is not a text" in done.err) == (2, True)
