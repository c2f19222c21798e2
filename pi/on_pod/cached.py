"""The hub's cache on the pod: the repositories in it, their files, and who fetches them now.

The layout is huggingface_hub's documented one: `models--OWNER--NAME` with `blobs`, `refs` and `snapshots`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from typing import Iterator, List

from pi.on_pod import process, storage

FOLDER = re.compile(r"models--(.+)")

MODEL_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)

UNFINISHED = ".incomplete"

USELESS = re.compile(r".+\.[0-9a-f]{8}\.incomplete")
"""An unfinished file that no later try continues: its name is random (huggingface_hub 2.x)."""


def folder_of(model: str) -> str:
    return os.path.join(storage.hub_cache(), "models--" + model.replace("/", "--"))


def models() -> List[str]:
    """Return the ids of the repositories in the cache; those of datasets and spaces are not among them."""
    try:
        names = os.listdir(storage.hub_cache())
    except OSError:
        return []
    ids = (found[1].replace("--", "/", 1) for found in map(FOLDER.fullmatch, names) if found)
    return sorted(model for model in ids if MODEL_ID.fullmatch(model))


def blobs(repo: str) -> Iterator["os.DirEntry[str]"]:
    """Yield the files of a repository, whole and unfinished ones.

    On storage without symbolic links, the hub's client keeps whole files in `snapshots`, which else has only links.
    """
    for folder in ("blobs", "snapshots"):
        yield from _files_in(os.path.join(repo, folder), DEEPEST)


DEEPEST = 8
"""Levels of folders in a repository that pi looks into."""


def _files_in(folder: str, levels: int) -> Iterator["os.DirEntry[str]"]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_file(follow_symlinks=False):
                    yield entry
                elif levels and entry.is_dir(follow_symlinks=False):
                    yield from _files_in(entry.path, levels - 1)


def size(repo: str, ending: str = "") -> int:
    """Return the bytes of a repository's files whose names end so."""
    return sum(_stat(entry).st_size for entry in blobs(repo) if entry.name.endswith(ending))


def whole_size(repo: str) -> int:
    """Return the bytes of a repository's files that are whole."""
    return size(repo) - size(repo, UNFINISHED)


def newest_change(repo: str) -> int:
    """Return when a file of a repository changed last, in nanoseconds since 1970; 0 without files."""
    return max((_stat(entry).st_mtime_ns for entry in blobs(repo)), default=0)


def last_use(repo: str) -> float:
    """Return when a file of a repository was read or written last, in seconds since 1970; 0 without files."""
    found = map(_stat, blobs(repo))
    return max((max(each.st_atime, each.st_mtime) for each in found), default=0.0)


def _stat(entry: "os.DirEntry[str]") -> os.stat_result:
    """Return the facts of a file, or zeros if it has just gone."""
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return os.stat_result((0,) * 10)


def programs(model: str) -> List[int]:
    """Return the processes whose command names a repository, except downloads; also those of other users."""
    users, own = [], process.ancestors()  # on `local`, one of them is the pi that asks
    for pid in process.pids():
        words = process.words(pid) if pid not in own else []
        if any(word.rpartition("=")[2] == model for word in words) and not _fetches(words, model):
            users.append(pid)
    return users


def fetchers(model: str) -> List[int]:
    """Return the processes that download a repository, also those that pi did not start."""
    return [pid for pid in process.pids() if pid != os.getpid() and _fetches(process.words(pid), model)]


def _fetches(words: List[str], model: str) -> bool:
    return any(
        os.path.basename(program) in ("hf", "huggingface-cli") and verb == "download" and model in rest
        for program, verb, rest in _commands(words)
    )


def _commands(words: List[str]) -> Iterator["tuple[str, str, List[str]]"]:
    for index in range(len(words) - 2):
        yield words[index], words[index + 1], words[index + 2 :]


def remove_useless(repo: str) -> None:
    """Delete unfinished files that no later try continues. Nobody may fetch the repository."""
    _remove(entry.path for entry in blobs(repo) if USELESS.fullmatch(entry.name))


def remove_unfinished(repo: str) -> None:
    """Delete all unfinished files: a download of another kind must not continue them."""
    _remove(entry.path for entry in blobs(repo) if entry.name.endswith(UNFINISHED))


def _remove(paths: Iterator[str]) -> None:
    for path in list(paths):
        with contextlib.suppress(OSError):
            os.unlink(path)


def remove(repo: str) -> None:
    """Delete a repository that is not a link. Raises OSError.

    Its snapshots go first, so that no vLLM takes the rest for a whole model.
    """
    for name in ("refs", "snapshots"):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(os.path.join(repo, name))
    shutil.rmtree(repo)
    locks = os.path.join(os.path.dirname(repo), ".locks", os.path.basename(repo))
    shutil.rmtree(locks, ignore_errors=True)
