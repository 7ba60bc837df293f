"""zcipc itself, as its README recommends: the default connection, and the one that sleeps at once."""

from zcipc import Pipe, Waiting, __version__
from zcipc.algorithms.ring import LINE
from zcipc.ends.end import DEFAULT_CAPACITY
from zcipc.lab.peers import base

_WAITING = {base.HYBRID: Waiting.HYBRID, base.BLOCK: Waiting.BLOCK}


class Zcipc(base.Peer):
    """A connection of the default capacity, or of four messages if they need more."""

    title = "zcipc"
    modes = (base.HYBRID, base.BLOCK)
    faces = (base.COPY, base.LOAN)

    def __init__(self, length: int, mode: str) -> None:
        super().__init__(length, mode)
        self._connections = Pipe(capacity=max(DEFAULT_CAPACITY, 4 * (length + LINE)), waiting=_WAITING[mode])

    @classmethod
    def version(cls) -> str:
        return __version__

    def open(self, index: int) -> base.CopyingEnd:
        connection = self._connections[index]
        return base.CopyingEnd(connection.send_bytes, connection.recv_bytes)

    def open_loaned(self, index: int) -> base.LoaningEnd:
        length, loan, borrow = self.length, self._connections[index].loan, self._connections[index].borrow

        def send(stamp: int) -> None:
            with loan(length) as buffer:
                buffer[0] = buffer[-1] = stamp

        def receive() -> int:
            with borrow() as buffer:
                stamp = buffer[0]
                return stamp if stamp == buffer[-1] else -1

        return base.LoaningEnd(send, receive)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
