"""Shared memory without a name: whoever has the descriptor can map it, and the kernel frees it with its last user.

Nothing can be left behind, whoever is killed, and nobody can come in who was not handed the descriptor.
"""

import errno
import fcntl
import mmap
import os
import weakref
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any

from zcipc.errors import OutOfDescriptors, OutOfSharedMemory
from zcipc.memory.segment import PREFIX, mapping_address

_NO_ROOM = (errno.ENOSPC, errno.ENOMEM, errno.EFBIG, errno.EINVAL)


class AnonymousMemory:
    """A mapping. It is pickled as its descriptor, to a process of the same `multiprocessing` family; a fork inherits it.

    Attributes:
        size: bytes.
        address: where it is mapped in this process, for as long as this object lives.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor).atexit = False
        self.size: int = os.fstat(descriptor).st_size
        self._mapping = mmap.mmap(descriptor, self.size)
        self.address: int = mapping_address(self._mapping)

    @classmethod
    def create(cls, size: int, kind: str) -> "AnonymousMemory":
        """`size` zeroed bytes, all of them reserved. Their number is final: nobody can cut them off under a reader.

        Args:
            kind: what they hold, for onlookers: it stands in `/proc/PID/maps`.

        Raises:
            OutOfSharedMemory: the machine, or the control group, has not enough memory.
            OutOfDescriptors: this process, or the machine, has no descriptor left.
        """
        try:
            descriptor = os.memfd_create(PREFIX + kind, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            raise OutOfDescriptors(
                error.errno, "no file descriptor is left for a queue: close what is not needed, or raise `ulimit -n`"
            ) from None
        try:
            os.posix_fallocate(descriptor, 0, size)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _NO_ROOM:
                raise
            raise OutOfSharedMemory(f"there is no memory for {size:,} shared bytes: ask for less capacity") from None
        return cls(descriptor)

    def copy(self, size: int) -> bytes:
        """The first `size` bytes."""
        return self._mapping[:size]

    def __reduce__(self) -> tuple[Callable[..., "AnonymousMemory"], tuple[Any]]:
        return _received, (DupFd(self._descriptor),)


def _received(descriptor: Any) -> AnonymousMemory:
    return AnonymousMemory(descriptor.detach())
