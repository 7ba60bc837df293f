"""A segment of shared memory: create, attach, validate, unlink.

The memory is reserved when it is created, so that a full `/dev/shm` is an error there and not a bus error later. A segment
begins with a header line that says what it is, and whoever attaches checks it before anything else.
"""

import atexit
import contextlib
import ctypes
import errno
import mmap
import os
import secrets
import struct
import time
import weakref
from collections import deque
from pathlib import Path
from typing import NamedTuple, Self

from zcipc.errors import (
    CorruptSegment,
    ForeignSegment,
    NameNotFound,
    NameTaken,
    OutOfDescriptors,
    OutOfSharedMemory,
    PermissionDenied,
    VersionMismatch,
)
from zcipc.memory.peer import Identity
from zcipc.memory.shared_memory import SharedMemory

PREFIX = "zcipc-"
DIRECTORY = Path("/dev/shm")
VERSION = 1
HEADER_BYTES = 128
_NO_ROOM = (errno.ENOSPC, errno.ENOMEM, errno.EFBIG, errno.EINVAL)
_MADV_POPULATE_WRITE = 23
_HALF_MADE_S = 60  # seconds; making a segment takes milliseconds
_MAGIC = b"zcipc\x00\r\n"
_HEADER = struct.Struct("<8sq8sq3q")  # magic, version, kind, size, creator: pid, start time, namespace


class Header(NamedTuple):
    """What a segment says of itself."""

    version: int
    kind: str
    size: int  # bytes
    creator: Identity


class Segment:
    """A mapped segment. It is unlinked by `unlink()`, and at the latest when its creator lets go of it or exits.

    Attributes:
        name: its name below `/dev/shm`.
        size: bytes.
        address: where it is mapped in this process.
        buffer: all of it, writable.
    """

    def __init__(self, memory: SharedMemory, name: str, created: bool) -> None:
        self._memory = memory
        self.name: str = name
        self.size: int = memory.size
        self.buffer: memoryview = memory.buf
        self.address: int = mapping_address(self.buffer)
        self._users = 1
        self._created_by = os.getpid() if created else None
        self._unlink = weakref.finalize(self, _unlink_in_creator, name, self._created_by)
        self._close = weakref.finalize(self, _close_mapping, memory)
        self._close.atexit = False  # the kernel does it, and until then a late reader must not fault

    @classmethod
    def create(cls, kind: str, size: int, name: str | None = None) -> "Segment":
        """A new segment of `size` zeroed bytes, mode 0600, all of it reserved.

        Args:
            kind: up to 8 characters that say what the segment holds.
            name: without prefix; a random one of 128 bits by default.

        Raises:
            NameTaken: there is a segment of this name.
            OutOfSharedMemory: `/dev/shm`, or the memory this process may use, has not enough room.
            OutOfDescriptors, PermissionDenied: the system says so.
        """
        name = PREFIX + (name or secrets.token_hex(16))
        memory = None
        try:
            memory = SharedMemory(name=name, create=True, size=size)
            _reserve(name, size)
        except (OSError, OverflowError) as error:
            if memory is not None:
                memory.close()
                memory.unlink()
            raise _named(error, name, size) from None
        segment = cls(memory, name, created=True)
        creator = Identity.own()
        header = (_MAGIC, VERSION, kind.encode().ljust(8), size, creator.pid, creator.start_time, creator.namespace)
        _HEADER.pack_into(segment.buffer, 0, *header)
        return segment

    @classmethod
    def attach(cls, kind: str, name: str) -> "Segment":
        """The existing segment `name` (with its prefix), checked.

        Raises:
            NameNotFound: there is none; its creator is gone, or both seats are taken.
            PermissionDenied: it is another user's.
            ForeignSegment, VersionMismatch, CorruptSegment: it is not a segment of this kind and version.
        """
        try:
            memory = SharedMemory(name=name)
        except FileNotFoundError:
            raise NameNotFound(
                f"there is no shared-memory segment {name}: its creator closed it or ended, or two processes have it already"
            ) from None
        except ValueError:  # an empty file cannot be mapped
            raise ForeignSegment(f"{name} is empty, so it is not a segment of zcipc") from None
        except OSError as error:
            raise _named(error, name, 0) from None
        try:
            _check(kind, name, memory)
        except BaseException:
            memory.close()
            raise
        return cls(memory, name, created=False)

    def creator(self) -> Identity:
        return _unpacked(self.buffer).creator

    def unlink(self) -> None:
        """Remove the name, whoever created it. Mappings stay; nobody can attach any more. Idempotent."""
        self._unlink.detach()
        with contextlib.suppress(FileNotFoundError):
            (DIRECTORY / self.name).unlink()

    def rename(self, name: str) -> None:
        """Give a complete segment the name that others know it by, at once.

        Raises:
            NameTaken: there is a segment of this name.
        """
        name = PREFIX + name
        try:
            os.link(DIRECTORY / self.name, DIRECTORY / name)
        except FileExistsError:
            raise NameTaken(f"a shared-memory segment {name} exists already") from None
        self.unlink()
        self.name = name
        self._unlink = weakref.finalize(self, _unlink_in_creator, name, self._created_by)

    @property
    def closed(self) -> bool:
        return not self._close.alive

    def leave_name(self) -> None:
        """Keep the name beyond this object, until its creator exits: another process was told it and may still attach."""
        if self._unlink.detach():
            for left in [left for left in tuple(_left) if not (DIRECTORY / left[0]).exists()]:
                _left.discard(left)  # somebody came: a process that hands out many connections must not remember them all
            _left.add((self.name, self._created_by))

    def retain(self) -> Self:
        """The same segment for one user more: it takes one `close()` more."""
        self._users += 1
        return self

    def close(self) -> None:
        """Unmap, as soon as the last user closes and no view is left; unlink, if this process created it. Idempotent."""
        self._users -= 1
        if self._users <= 0:
            self._close()
            self._unlink()


def populate_pages(address: int, size: int) -> None:
    """Map all pages there into this process now: a fault at the first use of each takes as long as many messages.

    Before Linux 5.14 the kernel refuses, and they fault.
    """
    ctypes.CDLL(None).madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), _MADV_POPULATE_WRITE)


def mapping_address(buffer: memoryview | mmap.mmap) -> int:
    """Where a writable buffer lies in this process."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def read_header(memory: bytes | memoryview) -> Header | None:
    """What the segment that begins with `memory` says of itself; None if zcipc did not make it, or not sign it yet."""
    ours = len(memory) >= _HEADER.size and bytes(memory[: len(_MAGIC)]) == _MAGIC
    return _unpacked(memory) if ours else None


def stale_segments() -> list[Path]:
    """Segments of this package below `/dev/shm` whose creator is dead, or died before it could sign them."""
    return [path for path in sorted(DIRECTORY.glob(PREFIX + "*")) if _is_stale(path)]


def clean() -> list[str]:
    """Remove what dead creators left in `/dev/shm`, and nothing else; the names removed."""
    removed = []
    for path in stale_segments():
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            removed.append(path.name)
    return removed


def _is_stale(path: Path) -> bool:
    try:
        if not path.is_file():  # anybody may put something else there, a FIFO to wait at for example
            return False
        with open(path, "rb", opener=_opened_at_once) as file:
            header = file.read(_HEADER.size)
            age = time.time() - os.fstat(file.fileno()).st_mtime
    except OSError:
        return False  # gone meanwhile, another user's, or replaced
    if not any(header):  # its creator has not come so far as to sign it, or was killed before
        return age > _HALF_MADE_S
    signed = read_header(header)
    return signed is not None and not signed.creator.is_alive()


def _opened_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _unpacked(memory: bytes | memoryview) -> Header:
    _, version, kind, size, *creator = _HEADER.unpack_from(memory)
    return Header(version, kind.decode(errors="replace").rstrip(), size, Identity(*creator))


def _reserve(name: str, size: int) -> None:
    file = os.open(DIRECTORY / name, os.O_RDWR)
    try:
        os.posix_fallocate(file, 0, size)
    finally:
        os.close(file)


def _check(kind: str, name: str, memory: SharedMemory) -> None:
    if memory.owner != os.geteuid():  # who may write to /dev/shm may take any name, and open the file to all
        raise PermissionDenied(f"{name} belongs to user {memory.owner}, and this process to user {os.geteuid()}")
    header = read_header(memory.buf)
    if memory.size < HEADER_BYTES or header is None:
        raise ForeignSegment(f"{name} was not made by zcipc")
    if header.version != VERSION:
        raise VersionMismatch(
            f"{name} has layout version {header.version}, this zcipc understands {VERSION}: run the same version at both ends"
        )
    if header.kind != kind:
        raise ForeignSegment(f"{name} holds {header.kind!r}, not {kind!r}")
    if header.size != memory.size:
        raise CorruptSegment(
            f"{name} says it has {header.size:,} bytes and has {memory.size:,}: it was truncated or overwritten"
        )


def _named(error: OSError | OverflowError, name: str, size: int) -> Exception:
    """The error of this package for what the system said about segment `name`; the same one if there is none."""
    number = error.errno if isinstance(error, OSError) else errno.EFBIG
    if number == errno.EEXIST:
        return NameTaken(f"a shared-memory segment {name} exists already")
    if number in _NO_ROOM:
        return OutOfSharedMemory(_no_room(size))
    if number in (errno.EMFILE, errno.ENFILE):
        return OutOfDescriptors(
            number, f"no file descriptor is left for {name}: close what is not needed, or raise `ulimit -n`"
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionDenied(
            f"this user may not use {DIRECTORY / name}: it is another user's, or the directory is read-only"
        )
    return error


def _no_room(size: int) -> str:
    room = os.statvfs(DIRECTORY)
    return (
        f"a segment of {size:,} bytes does not fit into {DIRECTORY}, where {room.f_bavail * room.f_frsize:,} are free; "
        f"ask for less capacity, run `zcipc clean`, or enlarge it (docker run --shm-size, mount -o remount,size=)"
    )


def _unlink_in_creator(name: str, creator_pid: int | None) -> None:
    if creator_pid == os.getpid():  # a forked child inherits the finalizer, not the duty
        with contextlib.suppress(FileNotFoundError):
            (DIRECTORY / name).unlink()


@atexit.register
def _unlink_left() -> None:
    for name, creator_pid in tuple(_left):
        _unlink_in_creator(name, creator_pid)


def _close_mapping(memory: SharedMemory) -> None:
    _closing.append(memory)
    for _ in range(len(_closing)):
        with contextlib.suppress(IndexError):  # another thread took the last one
            _close_or_keep(_closing.popleft())  # this thread's alone: `close` by two would close somebody else's descriptor


def _close_or_keep(memory: SharedMemory) -> None:
    try:
        memory.close()
    except BufferError:  # a view of the memory lives: tried again when the next segment closes, never under a reader
        _closing.append(memory)


_closing: deque[SharedMemory] = deque()
_left: set[tuple[str, int | None]] = set()  # names, with their creators, that processes were told and may not have come to
