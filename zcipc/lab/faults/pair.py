"""A sender and a receiver on one peer, the numbered messages between them, and what each says when it cannot go on."""

import json
import os
import select
import signal
import struct
import time
from collections.abc import Callable

from zcipc.lab.harness.launch import shared_array
from zcipc.lab.peers import BLOCK, PEERS, CopyingEnd
from zcipc.lab.torture.processes import Victim, eventually

SENDER, RECEIVER = 0, 1  # indices of ends
PATIENCE_S = 2.0  # eight times as long as zcipc takes to notice a death; who has said nothing by then is said to wait
UNDER_WAY = 64  # messages, so that a library which rather loses than waits is not made to lose
_OVERFLOW_BYTES = 64 << 20
_OVERFLOW = 20_000  # messages, more than any of the queues holds
_PAUSE_S = 0.0001
_NUMBER = struct.Struct("<q")

# Words that all processes see.
SENT, RECEIVED, LAST, TORN, WINDOW, STOP, READY = range(7)
_WORDS = READY + 2

SENDS_ON = "sends on, not told"
WAITS = "waits on, not told"
NOTHING = "gets nothing through"


class Pair:
    """Made in a fresh process, whose two children use the peer; whoever uses `start` has to `kill` in the end."""

    def __init__(self, system: str, length: int) -> None:
        self.peer = PEERS[system](length, BLOCK)
        self.length = length
        self.words = shared_array(_WORDS)
        self.most_under_way = min(UNDER_WAY, self.peer.burst or UNDER_WAY)
        self.overflow = min(_OVERFLOW_BYTES // length, _OVERFLOW)
        self.words[WINDOW] = self.most_under_way
        self._source, self._sink = os.pipe()
        self._said: dict[str, str] = {}

    def start(self, who: str, index: int, work: Callable[[CopyingEnd], None]) -> Victim:
        """Fork a process that opens end `index`, waits until both are open, and does `work`; what becomes of it is told."""

        def task() -> None:
            try:
                end = self.peer.open(index)
                self.peer.leave(1 - index)
                self.words[READY + index] = 1
                eventually(lambda: bool(self.words[READY:].all()))
                work(end)
                self.tell(who, "")
            except Exception as error:
                self.tell(who, f"raises {type(error).__name__}")
            signal.pause()  # that it ends is no part of the fault

        return Victim(task)

    def leave(self) -> None:
        """Give up both ends in this process, so that only the two have them."""
        self.peer.leave(SENDER)
        self.peer.leave(RECEIVER)

    def tell(self, who: str, what: str) -> None:
        os.write(self._sink, json.dumps([who, what]).encode() + b"\n")

    def heard(self, who: str, within: float = PATIENCE_S) -> str | None:
        """What `who` told when its work ended, empty for nothing special; None if it has not within `within` seconds."""
        deadline = time.monotonic() + within
        while who not in self._said:
            if not select.select([self._source], [], [], max(deadline - time.monotonic(), 0))[0]:
                return None
            for line in os.read(self._source, select.PIPE_BUF).splitlines():
                self._said.update([json.loads(line)])
        return self._said[who]

    # --- what the two do

    def stream(self, end: CopyingEnd) -> None:
        """Send until told to stop, no more under way than the window allows."""
        words = self.words
        while not words[STOP]:
            if words[SENT] - words[RECEIVED] < words[WINDOW]:
                end.send(self.message(int(words[SENT])))
                words[SENT] += 1
            else:
                time.sleep(_PAUSE_S)

    def collect(self, end: CopyingEnd) -> None:
        """Receive for ever."""
        while True:
            self.receive(end)

    def receive(self, end: CopyingEnd) -> None:
        message = bytes(end.receive())
        (number,) = _NUMBER.unpack_from(message)
        self.words[TORN] += message != self.message(number)
        self.words[LAST] = number
        self.words[RECEIVED] += 1

    def message(self, number: int) -> bytes:
        return _NUMBER.pack(number) * (self.length // _NUMBER.size)

    @property
    def lost(self) -> int:
        """Messages whose sending returned, and which were not received."""
        return max(int(self.words[SENT] - self.words[RECEIVED]), 0)
