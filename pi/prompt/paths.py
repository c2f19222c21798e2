"""The paths that tools may read: the directory where pi was started, except secrets."""

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
    """Decides whether tools may read a path; compares resolved paths, component by component.

    `root` is the resolved directory where the user started pi. Tools never read `private` directories and
    directories named `.ssh`, inside the root or outside; by default, /proc, /sys and /dev are private.
    """

    root: Path
    private: tuple[Path, ...] = SYSTEM_DIRECTORIES
    allow_outside: bool = False

    @classmethod
    def of(cls, working_dir: Path, config_dir: Path, *, allow_outside: bool = False) -> PathPolicy:
        """Return the policy of a working directory.

        ~/.pi is private even if pi's own configuration is elsewhere: if this machine is itself a pod, it contains keys.
        """
        own = (config_dir, Path.home() / ".ssh", Path.home() / ".pi")
        private = (Path(os.path.realpath(path)) for path in own)
        return cls(Path(os.path.realpath(working_dir)), (*SYSTEM_DIRECTORIES, *private), allow_outside)

    def resolve(self, text: str) -> Path:
        """Return an existing path without symlinks; a relative one starts at the root.

        Raises:
            ToolError: if the path does not exist or is not readable. A path outside fails before pi looks at it, so
                the answer does not show whether it exists.
        """
        try:
            path = Path(os.path.realpath(self.root / text))
            self.check(path)
            path.stat()
        except FileNotFoundError:
            raise ToolError(f"no such file or directory: {text}") from None
        except (OSError, ValueError) as error:
            raise ToolError(f"cannot access {text!r}: {_reason(error)}") from None
        return path

    def check(self, path: Path) -> None:
        """Raise ToolError unless tools may read the resolved `path`."""
        if self.is_private(path):
            raise ToolError(f"{path} is private: tools cannot read .ssh, pi's own configuration, /proc, /sys and /dev")
        if not self.allow_outside and not path.is_relative_to(self.root):
            raise ToolError(
                f"the path is outside the working directory {self.root}; only files inside are readable "
                "(the user can allow others with --allow-outside)"
            )

    def is_private(self, path: Path) -> bool:
        """Return True for paths that tools never read, even with `allow_outside`."""
        return any(path.is_relative_to(private) for private in self.private) or any(
            part.casefold() == ".ssh" for part in path.parts
        )

    def open_file(self, path: Path) -> int:
        """Open a regular file for reading and return its descriptor, which the caller closes.

        Checks the path of the open file again, in case a symlink has replaced it. Never waits for a FIFO or device.

        Raises:
            ToolError: if the path is not a regular file or is not readable.
        """
        descriptor = self._open(path, 0)
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            os.close(descriptor)
            raise ToolError(f"{path} is {kind_of_file(mode)}, not a file")
        return descriptor

    def open_directory(self, path: Path) -> int:
        """Open a directory with the checks of `open_file` and return its descriptor."""
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
    """Return the kernel's path of an open file, or `path` if the kernel has none."""
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink()
    except OSError:
        pass
    try:  # macOS
        return Path(os.fsdecode(fcntl.fcntl(descriptor, 50, bytes(1024)).rstrip(b"\0")))  # 50: F_GETPATH
    except OSError:
        return path


def kind_of_file(mode: int) -> str:
    """Return the kind of file in `st_mode`, in words that fit after "is"."""
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
