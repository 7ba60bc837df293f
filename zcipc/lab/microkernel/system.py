"""The processes: a supervisor that starts the servers, and anew when they die; and the application's side of them."""

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from zcipc import rpc
from zcipc.errors import Closed
from zcipc.lab.harness.launch import Partner, pin
from zcipc.lab.microkernel.servers import Bytes, Driver, FileServer
from zcipc.lab.microkernel.transports import TRANSPORTS, Accepting, Transport

PIECE_BYTES = 1 << 20  # a file is read and written in pieces of at most this size
AHEAD = 2  # pieces that are asked for before the first is used


class System:
    """An application with its servers, in the calling process, which must be a fresh one."""

    def __init__(self, transport: str, root: Path) -> None:
        self._transport = TRANSPORTS[transport]
        self._names = [f"{server}-{transport}-{os.getpid()}" for server in ("driver", "files")]
        self._supervisor = Partner(lambda: _supervise(self._transport, self._names, root))
        self.connect()

    def connect(self) -> None:
        """Find both servers, or those that took their place."""
        driver, files = self._names
        self.driver = rpc.connect(Driver, self._transport.connect(driver))
        self.files = rpc.connect(FileServer, self._transport.connect(files))

    def read(self, name: str) -> int:
        """Open a file, read it, close it; the sum of its 8-byte words."""
        handle, size = self.files.open(name)
        total = 0
        asked = []
        for offset, length in pieces(size):
            asked.append(rpc.start(self.driver.read, handle, offset, length))
            if len(asked) == AHEAD:
                total = checksum(asked.pop(0).result(), total)
        for call in asked:
            total = checksum(call.result(), total)
        self.files.close(handle)
        return total

    def write(self, name: str, content: Bytes) -> int:
        """Open a file, overwrite it with `content`, close it; how many bytes were written."""
        handle, _ = self.files.open(name)
        calls = [
            rpc.start(self.driver.write, handle, offset, content[offset : offset + length])
            for offset, length in pieces(len(content))
        ]
        written = sum(call.result() for call in calls)
        self.files.close(handle)
        return written

    def recover(self, name: str, expected: int) -> tuple[int, int]:
        """Kill the driver, and read a file all the same; ns until the application knew, and until it had the file."""
        victim = self.driver.pid()
        began = time.monotonic_ns()
        os.kill(victim, signal.SIGKILL)
        known = 0
        while True:
            try:
                if known:
                    self.connect()
                total = self.read(name)
                break
            except Closed:
                known = known or time.monotonic_ns() - began
                rpc.disconnect(self.driver)
                rpc.disconnect(self.files)
        if total != expected or not known:
            raise ValueError(f"the file was read as {total}, not {expected}, after the driver was killed")
        return known, time.monotonic_ns() - began

    def close(self) -> None:
        """End the supervisor, and with it the servers."""
        os.kill(self._supervisor.pid, signal.SIGTERM)
        os.waitpid(self._supervisor.pid, 0)


def _supervise(transport: Transport, names: list[str], root: Path) -> None:
    """Run a driver and a file server; whichever ends is started anew, until this process is asked to end."""
    driver, files = names
    roles: list[Callable[[], None]] = [
        lambda: _serve(Driver(), transport.listen(driver)),
        lambda: _serve(FileServer(root, lambda: _driver_of(transport, driver)), transport.listen(files)),
    ]
    running = {_start(role): role for role in roles}

    def end(_signal: int, _frame: object) -> None:
        for pid in running:
            os.kill(pid, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        pid, _ = os.wait()
        role = running.pop(pid)
        running[_start(role)] = role


def _start(role: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            pin(1)
            role()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return pid


def _serve(service: object, listener: Accepting) -> None:
    while True:
        threading.Thread(target=rpc.serve, args=(service, listener.accept()), daemon=True).start()


def _driver_of(transport: Transport, name: str) -> Driver:
    return rpc.connect(Driver, transport.connect(name))


def pieces(size: int) -> Iterator[tuple[int, int]]:
    """Offset and bytes of each piece of a file."""
    return ((offset, min(PIECE_BYTES, size - offset)) for offset in range(0, size, PIECE_BYTES))


def checksum(content: Bytes, total: int = 0) -> int:
    """The sum of the 8-byte words in `content`, added to `total`, modulo 2**64: the use that is made of a file."""
    return (total + int(content.view(np.uint64).sum())) % (1 << 64)
