"""What a transport is: how two processes that were forked from one another exchange messages of one length.

In compiled code an *end* is a named tuple of integers, and four operations take it. Which implementation runs is decided by
its type when the loop is compiled, so a call costs nothing. A message is written where `room` says and read where `receive`
says; for a copying transport both are private memory, for a loan they are the shared memory itself.

In interpreted code an end is an object of `InterpretedEnd`.

A new transport is one file that does what `pipe.py` does, and one line in `__init__.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from numba.extending import overload


def room(end, length):
    """Compiled: address to write a message of `length` bytes at. May wait for room."""


def send(end, length):
    """Compiled: send the message written at `room`."""


def receive(end, length):
    """Compiled: wait for a message; address to read its `length` bytes at."""


def release(end, length):
    """Compiled: the message at `receive` has been read."""


def implement(operation: Callable[..., Any], end_type: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make the decorated function of `(end, length)` the `operation` for ends of `end_type`."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        @overload(operation)
        def choose(end, length):  # numba wants the parameters of the implementation to the letter
            return function if getattr(end, "instance_class", None) is end_type else None

        return function

    return register


class InterpretedEnd(ABC):
    """An end as a Python program would use it. Each method handles one message of the transport's length."""

    @abstractmethod
    def send(self, stamp: int) -> None:
        """Write a message that consists of `stamp` and send it."""

    @abstractmethod
    def receive(self, stamp: int) -> bool:
        """Wait for a message and read all of it; whether it consists of `stamp`."""

    @abstractmethod
    def receive_stamp(self) -> int:
        """Wait for a message and read all of it; its stamp, or -1 if it is torn."""


class Transport(ABC):
    """Both ends of a transport for messages of `length` bytes. Made before the fork; each process then opens its own end."""

    def __init__(self, length: int) -> None:
        self.length = length

    @abstractmethod
    def compiled_end(self, index: int) -> Any:
        """The named tuple of end 0 or 1, for compiled loops."""

    @abstractmethod
    def interpreted_end(self, index: int) -> InterpretedEnd:
        """End 0 or 1 for interpreted loops."""

    def close(self) -> None:  # noqa: B027
        """Give back what the kernel does not give back by itself when both processes exit."""
