"""The two servers. The file server says who may use which file; its content goes from the driver to the application.

A handle that the file server had the driver open is all that the driver asks for, so no byte of a file passes a third process.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zcipc import rpc
from zcipc.errors import Closed

Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]


class Driver:
    """The device driver: blocks of what the file server opened."""

    def pid(self) -> int:
        return os.getpid()

    def open(self, path: str) -> int:
        """A handle of a file to read and write."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, handle: int) -> None:
        os.close(handle)

    @rpc.in_place
    def read(self, handle: int, offset: int, size: int) -> Bytes:
        """`size` bytes of the file, read straight into the message. Raises EOFError if it has fewer."""

        def fill(room: Bytes) -> None:
            if os.preadv(handle, [room.data], offset) != size:
                raise EOFError(f"the file ends before {offset + size:,} bytes")

        result: Bytes = rpc.filled(size, np.uint8, fill)
        return result

    @rpc.in_place
    def write(self, handle: int, offset: int, data: Bytes) -> int:
        """Write `data`, straight from the message; how many bytes."""
        return os.pwritev(handle, [data.data], offset)


class FileServer:
    """Names of files below one directory, and their sizes."""

    def __init__(self, root: Path, connect_driver: Callable[[], Driver]) -> None:
        self._root = root
        self._connect = connect_driver
        self._driver = connect_driver()

    def open(self, name: str) -> tuple[int, int]:
        """The driver's handle of the file, and its size in bytes.

        Raises:
            PermissionError: the name leads out of the directory.
        """
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root):
            raise PermissionError(f"{name!r} is outside of what this server serves")
        try:
            handle = self._driver.open(str(path))
        except Closed:  # the driver died, and there is a new one
            self._driver = self._connect()
            handle = self._driver.open(str(path))
        return handle, path.stat().st_size

    def close(self, handle: int) -> None:
        self._driver.close(handle)
