"""Numbered, sealed messages, and the ledger of what a receiver saw of them: the one judge of every round."""

import struct
import zlib
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np

from zcipc.lab.torture.tally import Tally

_SEAL = struct.Struct("<QI")  # number, CRC-32 of number and body
SHORTEST = _SEAL.size  # bytes


def sealed(number: int, length: int) -> bytes:
    """Message `number` of a sender, `length` bytes long, with a body that is its own and a check sum over all of it."""
    body = Random(number).randbytes(min(length - SHORTEST, 64))
    body = (body * (length // (len(body) or 1) + 1))[: length - SHORTEST]
    return _SEAL.pack(number, _check_sum(number, body)) + body


def number_of(message: bytes | memoryview) -> int | None:
    """The number of a message; None if it is not as it was sealed."""
    if len(message) < SHORTEST:
        return None
    number, check_sum = _SEAL.unpack_from(message)
    return number if check_sum == _check_sum(number, message[SHORTEST:]) else None


def in_some_form(message: bytes, random: Random) -> Any:
    """An object that holds a message: its bytes, which are never pickled, an array, or a pickle with either inside."""
    array = np.frombuffer(message, np.uint8)
    return random.choice((message, array, [message], {"message": array}))


def content(form: Any) -> bytes:
    """The message that `in_some_form` put into an object."""
    while isinstance(form, list | dict):
        form = form["message"] if isinstance(form, dict) else form[0]
    return form if isinstance(form, bytes) else bytes(form.tobytes())


def _check_sum(number: int, body: bytes | memoryview) -> int:
    return zlib.crc32(body, number & 0xFFFF_FFFF)


class Ledger:
    """What one receiver saw of one sender's messages, which are numbered from `first` on."""

    def __init__(self, first: int = 0) -> None:
        self.received = 0
        self._next = first
        self._missing: set[int] = set()
        self._duplicated = self._torn = self._out_of_order = 0

    def note(self, message: bytes | memoryview) -> None:
        """A message was received."""
        number = number_of(message)
        self.received += 1
        if number is None:
            self._torn += 1
        elif number >= self._next:
            self._missing.update(range(self._next, number))
            self._next = number + 1
        elif number in self._missing:
            self._missing.remove(number)
            self._out_of_order += 1
        else:
            self._duplicated += 1

    def settle(self, committed: int, tally: Tally, step: str) -> None:
        """Nothing more will come, of `committed` messages or more that were sent: count what is wrong."""
        tally.messages += self.received
        tally.fault("lost", f"of {committed} messages, {step}", len(self._missing) + max(committed - self._next, 0))
        tally.fault("duplicated", step, self._duplicated)
        tally.fault("torn", step, self._torn)
        tally.fault("out_of_order", step, self._out_of_order)


def stream(random: Random, longest: int) -> Iterator[bytes]:
    """Messages from number 0 on, of random lengths up to `longest`, most of them short."""
    number = 0
    while True:
        roof = random.choice((64, 64, 512, longest))
        yield sealed(number, random.randint(SHORTEST, min(roof, longest)))
        number += 1
