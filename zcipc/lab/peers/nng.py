"""nng by pynng: Pair0 sockets over ipc://. Polled, a receive does not block and is asked again and again, giving
way to the library's own threads each time.
"""

import tempfile
from os import sched_yield
from pathlib import Path
from typing import Any

from zcipc.lab.peers import base


class Nng(base.Peer):
    """A Pair0 socket at each end, threads of the library behind each."""

    title = "pynng"
    modes = (base.POLL, base.BLOCK)
    distribution = "pynng"

    @property
    def pinned(self) -> bool:
        return False

    def open(self, index: int) -> base.CopyingEnd:
        import pynng

        address = f"ipc://{self._path()}"
        self._socket = pynng.Pair0(recv_max_size=0)  # no limit
        if index == 0:
            self._socket.listen(address)
        else:
            self._socket.dial(address, block=False)  # again and again until the other end listens
        receive = self._socket.recv
        if self.mode == base.POLL:
            attempt, again = self._socket.recv, pynng.TryAgain

            def poll() -> Any:
                while True:
                    try:
                        return attempt(False)
                    except again:
                        sched_yield()

            receive = poll
        return base.CopyingEnd(self._socket.send, receive)

    def _path(self) -> Path:
        return Path(tempfile.gettempdir()) / self.token

    def close(self) -> None:
        self._socket.close()
        self._path().unlink(missing_ok=True)
