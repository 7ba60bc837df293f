"""What a peer is: another way for two Python processes to exchange messages of one length, at its best honest setting.

A peer is made in a fresh process before it forks, with whatever both must inherit. Each of the two then opens its own end: an
end is bare callables, the library's own where its signature allows, so that what is timed is the library and not us. Threads,
sockets and mappings are opened after the fork, and libraries that start threads when imported are imported after it, too.

A new peer is one class here, with its settings and why, and one line in `__init__.py`.
"""

import platform
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import metadata
from typing import Any, ClassVar, NamedTuple

POLL = "poll"
"""Whoever waits asks again and again, and occupies its core."""
HYBRID = "hybrid"
"""Whoever waits spins for a bounded time and sleeps then."""
BLOCK = "block"
"""Whoever waits sleeps in the kernel."""

COPY = "copy"
"""A message is copied in from an object of the sender, and out into one of the receiver."""
LOAN = "loan"
"""A message is written and read where it lies in shared memory."""


class CopyingEnd(NamedTuple):
    """An end that copies.

    `send(data)` takes `bytes` of the peer's length, or what `receive` returned; False means that there is no room for it now,
    whatever else that it was sent. `receive()` waits for a message and returns it as something bytes-like, to be used before
    the next call.
    """

    send: Callable[[Any], Any]
    receive: Callable[[], Any]


class LoaningEnd(NamedTuple):
    """An end that writes and reads in place.

    `send(stamp)` sends a message of the peer's length whose first and last byte it sets to `stamp`, 0 to 255; nothing else is
    written. False means that there is no room now. `receive()` waits for a message, reads these two in place, gives the
    message back, and returns the stamp, or -1 if they differ.
    """

    send: Callable[[int], Any]
    receive: Callable[[], int]


class Peer(ABC):
    """Messages of `length` bytes both ways between a process and its fork, waiting as `mode` says.

    The constructor and `open` raise what the library raises if it cannot do that.
    """

    title: ClassVar[str]
    """How a figure names it."""
    modes: ClassVar[tuple[str, ...]]
    faces: ClassVar[tuple[str, ...]] = (COPY,)
    distribution: ClassVar[str | None] = None
    """The package it comes in; None: Python's standard library."""

    def __init__(self, length: int, mode: str) -> None:
        self.length = length
        self.mode = mode
        self.token = f"zcipc-peer-{secrets.token_hex(8)}"  # for libraries whose processes meet by name

    @classmethod
    def version(cls) -> str:
        """The version of the package, Python's own for what is in its library.

        Raises:
            importlib.metadata.PackageNotFoundError: it is not installed.
        """
        return metadata.version(cls.distribution) if cls.distribution else f"Python {platform.python_version()}"

    @property
    def pinned(self) -> bool:
        """Whether each process is best kept on a core of its own. Threads of a library's own may need the other core."""
        return True

    @property
    def burst(self) -> int | None:
        """How many messages it holds one way, if it loses more than that instead of making the sender wait."""
        return None

    @abstractmethod
    def open(self, index: int) -> CopyingEnd:
        """End 0 or 1, in the process that will use it. Both are open before either is used."""

    def open_loaned(self, index: int) -> LoaningEnd:
        """The same, in place; only for peers with the face LOAN."""
        raise TypeError(f"{self.title} has no loans")

    def leave(self, index: int) -> None:  # noqa: B027
        """Give up the end that another process uses, where holding it would keep that one's death from being seen."""

    def close(self) -> None:  # noqa: B027
        """Give back what this process opened; called in both, after the last message."""
