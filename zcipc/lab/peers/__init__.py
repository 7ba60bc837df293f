"""The other ways for two Python processes to exchange messages that zcipc is compared with, by name; and zcipc itself."""

from collections.abc import Iterable
from typing import NamedTuple

from zcipc.lab.errors import UsageError
from zcipc.lab.peers.base import BLOCK, COPY, HYBRID, LOAN, POLL, CopyingEnd, LoaningEnd, Peer
from zcipc.lab.peers.cloudtoid import Cloudtoid
from zcipc.lab.peers.faster_fifo import FasterFifo
from zcipc.lab.peers.iceoryx2 import Iceoryx2
from zcipc.lab.peers.itself import Zcipc
from zcipc.lab.peers.kernel import OsPipe, PosixQueue, SocketPair
from zcipc.lab.peers.kickmsg import Kickmsg
from zcipc.lab.peers.multiprocess import MultiprocessingPipe, Queue, SimpleQueue
from zcipc.lab.peers.nng import Nng
from zcipc.lab.peers.zenoh import Zenoh
from zcipc.lab.peers.zeromq import ZeroMq

__all__ = ["BLOCK", "COPY", "HYBRID", "LOAN", "PEERS", "POLL", "CopyingEnd", "LoaningEnd", "Peer", "Series", "series"]

PEERS: dict[str, type[Peer]] = {
    "zcipc": Zcipc,
    "iceoryx2": Iceoryx2,
    "cloudtoid": Cloudtoid,
    "kickmsg": Kickmsg,
    "pyzmq": ZeroMq,
    "pynng": Nng,
    "faster_fifo": FasterFifo,
    "zenoh": Zenoh,
    "os_pipe": OsPipe,
    "socketpair": SocketPair,
    "posix_queue": PosixQueue,
    "mp_pipe": MultiprocessingPipe,
    "mp_simple_queue": SimpleQueue,
    "mp_queue": Queue,
}


class Series(NamedTuple):
    """One way to use one peer: a row of every table and a line of every figure."""

    system: str
    mode: str
    face: str


def series(systems: Iterable[str] | None = None) -> list[Series]:
    """Every face and mode of `systems`, names of `PEERS`; None: of all.

    Raises:
        UsageError: there is no such peer; lists those that are.
    """
    wanted = list(PEERS if systems is None else systems)
    if unknown := [name for name in wanted if name not in PEERS]:
        raise UsageError(f"there is no peer {', '.join(map(repr, unknown))}; peers: {', '.join(PEERS)}")
    return [Series(name, mode, face) for name in wanted for face in PEERS[name].faces for mode in PEERS[name].modes]
