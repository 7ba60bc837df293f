"""One interface to named shared memory that no resource tracker follows, on every supported Python.

Python 3.13 has it as `multiprocessing.shared_memory.SharedMemory(track=False)`; before that the same is made of `posix_ipc`.
"""

import os
import sys

__all__ = ["SharedMemory"]

if sys.version_info >= (3, 13):
    from multiprocessing import shared_memory

    class SharedMemory(shared_memory.SharedMemory):
        """Python's own, and whose it is."""

        def __init__(self, name: str, create: bool = False, size: int = 0) -> None:
            super().__init__(name, create, size, track=False)
            self.owner: int = os.fstat(self._fd).st_uid  # type: ignore[attr-defined]
else:
    import errno
    import mmap

    import posix_ipc

    class SharedMemory:
        """The part of Python 3.13's `SharedMemory(name, create, size, track=False)` that this package uses, and whose it is."""

        def __init__(self, name: str, create: bool = False, size: int = 0) -> None:
            flags = posix_ipc.O_CREX if create else 0
            try:
                memory = posix_ipc.SharedMemory("/" + name, flags, mode=0o600, size=size)
            except posix_ipc.ExistentialError as error:
                raise OSError(errno.EEXIST if create else errno.ENOENT, str(error)) from None  # the subclass for the number
            except posix_ipc.PermissionsError as error:
                raise PermissionError(errno.EACCES, str(error)) from None
            except OSError as error:
                raise OSError(error.errno or errno.EMFILE, str(error)) from None  # it gives no number for too many files
            self.name = name
            try:
                status = os.fstat(memory.fd)
                self.size: int = status.st_size
                self.owner: int = status.st_uid
                self._mmap = mmap.mmap(memory.fd, self.size)
            except (OSError, ValueError):
                if create:
                    self.unlink()
                raise
            finally:
                memory.close_fd()
            self.buf: memoryview = memoryview(self._mmap)

        def close(self) -> None:
            self.buf.release()
            self._mmap.close()

        def unlink(self) -> None:
            try:
                posix_ipc.unlink_shared_memory("/" + self.name)
            except posix_ipc.ExistentialError as error:
                raise FileNotFoundError(str(error)) from None
