"""The transports that the experiments compare, by name."""

from zcipc.lab.transports.base import InterpretedEnd, Transport, receive, release, room, send
from zcipc.lab.transports.limit import Limit
from zcipc.lab.transports.paper import Paper
from zcipc.lab.transports.pipe import Pipe
from zcipc.lab.transports.ring import Blocking, Copying, Loaning
from zcipc.lab.transports.socketpair import SocketPair

__all__ = ["COMPILED", "INTERPRETED", "TRANSPORTS", "InterpretedEnd", "Transport", "receive", "release", "room", "send"]

TRANSPORTS: dict[str, type[Transport]] = {
    "pipe": Pipe,
    "socketpair": SocketPair,
    "paper": Paper,
    "zcipc_block": Blocking,
    "zcipc": Copying,
    "zcipc_loan": Loaning,
    "limit": Limit,
}

COMPILED = tuple(TRANSPORTS)
INTERPRETED = tuple(name for name in TRANSPORTS if name != "limit")
