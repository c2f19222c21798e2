"""Catalogs that somebody published: what pi accepts, what it rejects, and which catalog wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from pi.errors import InputError
from pi.planning import catalog, catalog_files, published

SHIPPED = catalog.load()
TEXT = catalog.SHIPPED.read_text("utf-8")

NEW = """date = "2026-12-24"
[family.new]
tools = "hermes"
[model."me/new"]
family = "new"
parameters = 7
context = 32768
variants.fp8 = { precision = "fp8" }
variants.awq = { precision = "int4", id = "me/new-AWQ" }
"""


def accepted(text: str) -> catalog.Catalog:
    return published.checked(text.encode(), "new.toml", SHIPPED)


def test_own_catalog_of_pi_is_accepted() -> None:
    assert accepted(TEXT).models == SHIPPED.models


def test_new_model_is_accepted() -> None:
    found = accepted(NEW)
    assert (found.date, [spec.id for spec in found.models]) == ("2026-12-24", ["me/new"])


def test_environment_of_a_shipped_model_is_accepted() -> None:
    changed = TEXT.replace('title = "Qwen3.5-397B"', 'title = "Renamed"')
    spec = next(spec for spec in accepted(changed).models if spec.title == "Renamed")
    assert spec.tuning.env["VLLM_USE_DEEP_GEMM"] == "0"


def with_line(line: str) -> str:
    return NEW.replace("context = 32768", f"context = 32768\n{line}")


REJECTED = {
    "environment": (with_line('env = { VLLM_PLUGINS = "x" }'), "model me/new: env may not come from a published"),
    "environment on a card": (with_line("on.h100.env = { A = '1' }"), "env may not come from a published catalog (A)"),
    "environment of a checkpoint": (NEW.replace('"fp8" }', '"fp8", env = { A = "1" } }'), "(A)"),
    "environment of a layout": (
        NEW.replace('"fp8" }', '"fp8", layouts = [{ gpus = 1, on = ["h100"], env = { A = "1" } }] }'),
        "(A)",
    ),
    "another value for a shipped variable": (
        TEXT.replace('VLLM_USE_DEEP_GEMM = "0" }', 'VLLM_USE_DEEP_GEMM = "2" }', 1),
        "(VLLM_USE_DEEP_GEMM)",
    ),
    "packages": (with_line('packages = ["evil"]'), "packages may not come"),
    "remote code": (with_line("trust_remote_code = true"), "trust_remote_code may not come"),
    "remote code by a family": (NEW.replace('tools = "hermes"', "trust_remote_code = true"), "trust_remote_code may"),
    "another checkpoint for a model with remote code": (
        TEXT.replace("nvidia/Kimi-K2.6-NVFP4", "evil/Kimi-K2.6-NVFP4", 1),
        "model moonshotai/Kimi-K2.6: trust_remote_code may not come",
    ),
    "a draft model beside remote code": (
        TEXT.replace("lightseekorg/kimi-k2.6-eagle3-mla", "evil/draft", 1),
        "model moonshotai/Kimi-K2.6: trust_remote_code may not come",
    ),
    "remote code as an argument": (with_line('args = ["--trust-remote-code"]'), "may not set --trust-remote-code"),
    "a plugin": (with_line('args = ["--tool-parser-plugin", "x.py"]'), "may not set --tool-parser-plugin"),
    "an open port": (with_line('args = ["--port", "80"]'), "may not set --port"),
    "an option in another spelling": (with_line('args = ["--tool_parser_plugin=x.py"]'), "--tool-parser-plugin"),
    "a compilation backend": (
        with_line("args = ['--compilation-config', '{\"backend\":\"evil.run\"}']"),
        "may not set backend in --compilation-config",
    ),
    "a compilation backend after a dot": (
        with_line('args = ["--compilation-config.backend", "evil.run"]'),
        "may not set backend in --compilation-config",
    ),
    "a drafting class": (
        with_line(
            "draft = { args = ['--speculative-config', "
            '\'{"method":"custom_class","model":"a/b","num_speculative_tokens":1}\'] }'
        ),
        "'custom_class' is not a known method",
    ),
    "words without an option": (with_line('args = ["x.py"]'), "may not set x.py"),
    "a path as a model": (NEW.replace('"me/new"', '"/etc"'), "'/etc' is a path"),
    "a path as a checkpoint": (NEW.replace('"me/new-AWQ"', '"~/x"'), "'~/x' is a path"),
    "an invalid id": (NEW.replace('"me/new-AWQ"', '"me/new --x"'), "invalid model"),
    "an option as a parser": (NEW.replace('"hermes"', '"--port"'), "'--port' is not a parser"),
    "no date": (NEW.replace('date = "2026-12-24"', ""), "it has no date"),
    "a date that does not exist": (NEW.replace("2026-12-24", "2026-13-24"), "the top: "),
    "no models": ('date = "2026-12-24"\n', "it has no models"),
    "an unknown table": (NEW + "[hooks]\n", "unknown key hooks"),
    "an unknown key": (with_line("hook = 1"), "unknown key hook"),
    "a number as a text": (with_line("notes = 5"), "model.me/new.notes is not text"),
    "a text as a number": (with_line('heads = "many"'), "model.me/new.heads is not a number"),
    "an endless number": (NEW.replace("parameters = 7", "parameters = inf"), "parameters is not a number"),
    "a text as a list": (with_line('args = "--x"'), "args is not a list of texts"),
    "a half file": (TEXT[: TEXT.index("variants.fp8") + 10], "new.toml"),
    "not TOML": ("[model", "new.toml"),
}


@pytest.mark.parametrize(("text", "part"), REJECTED.values(), ids=REJECTED)
def test_published_catalog_is_rejected(text: str, part: str) -> None:
    with pytest.raises(InputError) as caught:
        accepted(text)
    assert part in caught.value.message and "new.toml" in caught.value.message


# --------------------------------------------------------------------------------------------- which catalog wins


def keep(folder: Path, text: str) -> None:
    file = catalog_files.fetched_in(folder)
    file.parent.mkdir()
    file.write_text(text)


def test_newer_catalog_replaces_the_shipped_one(tmp_path: Path) -> None:
    keep(tmp_path, NEW)
    found = catalog.load(tmp_path)
    assert (found.date, len(found.models)) == ("2026-12-24", 1)


def test_older_catalog_is_ignored(tmp_path: Path) -> None:
    keep(tmp_path, NEW.replace("2026-12-24", "2025-01-01"))
    assert catalog.load(tmp_path).models == SHIPPED.models


def test_users_own_entries_win(tmp_path: Path) -> None:
    keep(tmp_path, NEW)
    (tmp_path / "models.toml").write_text('[model."me/new"]\ncontext = 4096\n')
    entry = catalog.load(tmp_path).find("me/new-AWQ")
    assert entry and (entry[0].context, entry[0].tools) == (4096, "hermes")


def test_damaged_catalog_is_named(tmp_path: Path) -> None:
    keep(tmp_path, NEW + "[")
    with pytest.raises(InputError) as caught:
        catalog.load(tmp_path)
    assert str(catalog_files.fetched_in(tmp_path)) in caught.value.message
