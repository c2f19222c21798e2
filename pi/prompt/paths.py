"""Which files the model's tools may read: inside the directory where pi was started, and never secrets."""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pi.prompt.limits import ToolError

SYSTEM_DIRECTORIES = tuple(Path(os.path.realpath(name)) for name in ("/proc", "/sys", "/dev"))


@dataclass(frozen=True)
class PathPolicy:
    """Answers whether a path may be read. Paths are resolved first and compared by their components.

    `root` is where the user started pi, resolved. Inside or outside of it, `private` directories, any
    directory named `.ssh` and the system's /proc, /sys and /dev are never read.
    """

    root: Path
    private: tuple[Path, ...] = SYSTEM_DIRECTORIES
    allow_outside: bool = False

    @classmethod
    def of(cls, working_dir: Path, config_dir: Path, *, allow_outside: bool = False) -> PathPolicy:
        """The policy of a working directory. A machine that is itself a pod keeps keys in ~/.pi, wherever pi's are."""
        own = (config_dir, Path.home() / ".ssh", Path.home() / ".pi")
        private = (Path(os.path.realpath(path)) for path in own)
        return cls(Path(os.path.realpath(working_dir)), (*SYSTEM_DIRECTORIES, *private), allow_outside)

    def resolve(self, text: str) -> Path:
        """The existing file or directory that the model named, without symlinks; relative means in the root.

        Raises:
            ToolError: when there is none, or it may not be read. What lies outside is refused before it is
                looked at, so that the answer does not tell whether it exists.
        """
        try:
            path = Path(os.path.realpath(self.root / text))
            self.check(path)
            path.stat()
        except FileNotFoundError:
            raise ToolError(f"no such file or directory: {text}") from None
        except (OSError, ValueError) as error:
            raise ToolError(f"cannot look at {text!r}: {_reason(error)}") from None
        return path

    def check(self, path: Path) -> None:
        """Returns when the resolved `path` may be read.

        Raises:
            ToolError: otherwise.
        """
        if self.is_private(path):
            raise ToolError(f"{path} may not be read: .ssh, pi's own configuration, /proc, /sys and /dev are closed")
        if not self.allow_outside and not path.is_relative_to(self.root):
            raise ToolError(
                f"the path leads out of the working directory {self.root}, and only what is inside may be "
                "read (the user can allow more with --allow-outside)"
            )

    def is_private(self, path: Path) -> bool:
        """True for what is never read, with or without `allow_outside`."""
        return any(path.is_relative_to(private) for private in self.private) or any(
            part.casefold() == ".ssh" for part in path.parts
        )

    def open_file(self, path: Path) -> int:
        """A descriptor of a regular file, open for reading; the caller closes it.

        The path is checked again on what was really opened, so a symlink put in its place in the meantime
        leads nowhere, and a FIFO or device is never waited for.

        Raises:
            ToolError: when it is not a regular file or may not be read.
        """
        descriptor = self._open(path, 0)
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            os.close(descriptor)
            raise ToolError(f"{path} is {kind_of_file(mode)}, not a file")
        return descriptor

    def open_directory(self, path: Path) -> int:
        """A descriptor of a directory, with the same care as `open_file`."""
        return self._open(path, os.O_DIRECTORY)

    def _open(self, path: Path, flags: int) -> int:
        try:
            descriptor = os.open(path, flags | os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise ToolError(f"cannot open {path}: {_reason(error)}") from None
        try:
            self.check(_opened_path(descriptor, path))
        except ToolError:
            os.close(descriptor)
            raise
        return descriptor


def _opened_path(descriptor: int, path: Path) -> Path:
    """The path of an open file as the kernel knows it; `path` where it does not tell."""
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink()
    except OSError:
        pass
    try:  # macOS
        return Path(os.fsdecode(fcntl.fcntl(descriptor, 50, bytes(1024)).rstrip(b"\0")))  # 50: F_GETPATH
    except OSError:
        return path


def kind_of_file(mode: int) -> str:
    """What `st_mode` describes, in words that fit after "is"."""
    kinds = [
        (stat.S_ISREG, "a file"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISLNK, "a symlink"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISCHR, "a character device"),
    ]
    return next((name for matches, name in kinds if matches(mode)), "something else")


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
