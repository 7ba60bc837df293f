"""Who sits at each end: the identity of a process, and whether it lives."""

import contextlib
import functools
import os
from dataclasses import dataclass
from pathlib import Path

from zcipc.native.atomics import close_descriptor, is_readable, kill, pidfd_open
from zcipc.native.compiled import jit

_STATE, _START_TIME = 0, 19  # fields of /proc/PID/stat counted after the name, see proc(5)
_DEAD_STATES = (b"Z", b"X")


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, told apart from a later one with the same number and from one in another pid namespace."""

    pid: int
    start_time: int  # clock ticks since boot
    namespace: int  # inode of the pid namespace

    @classmethod
    def of(cls, pid: int) -> "Identity":
        """The identity of process `pid`.

        Raises:
            ProcessLookupError: there is no such process.
        """
        fields = _stat(pid)
        if fields is None:
            raise ProcessLookupError(f"there is no process {pid}")
        return cls(pid, int(fields[_START_TIME]), own_namespace())

    @classmethod
    def of_the_dead(cls, pid: int) -> "Identity | None":
        """One that is not alive, if process `pid` has ended; None while it runs."""
        return cls(pid, 0, own_namespace()) if _stat(pid) is None else None

    @classmethod
    def own(cls) -> "Identity":
        return cls.of(os.getpid())

    def is_alive(self) -> bool:
        """Whether the process still runs. A zombie does not; one in another pid namespace is taken to be."""
        if self.namespace != own_namespace():
            return True
        try:
            fields = _stat(self.pid)
        except OSError:
            return _exists(self.pid)  # no descriptor left to look closer
        return fields is not None and fields[_STATE] not in _DEAD_STATES and int(fields[_START_TIME]) == self.start_time


def _stat(pid: int) -> list[bytes] | None:
    # Without pathlib and text: everyone who waits does this five times a second.
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        line = os.read(file, 4096)
    except ProcessLookupError:
        return None
    finally:
        os.close(file)
    return line.rpartition(b")")[2].split()  # the name before it may hold spaces and parentheses


def _exists(pid: int) -> bool:
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def own_namespace() -> int:
    """The pid namespace of this process, as the inode that the kernel gives it."""
    return _namespace_of_process(os.getpid())  # a forked child may be in another one


@functools.lru_cache(maxsize=1)
def _namespace_of_process(_pid: int) -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


@jit
def has_ended(pid):
    """Whether process `pid` has ended, for compiled code; a zombie has. False for 0: nobody sits there yet.

    Knows only the number: `Identity.is_alive` also tells a process from its predecessor.
    """
    if pid <= 0:
        return False
    descriptor = pidfd_open(pid)
    if descriptor < 0:  # no such process; or no descriptor left, and then a zombie is taken to live
        return kill(pid, 0) != 0
    ended = is_readable(descriptor)
    close_descriptor(descriptor)
    return ended
