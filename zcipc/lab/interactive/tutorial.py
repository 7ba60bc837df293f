"""The other processes of `tutorial.ipynb`: what a notebook starts must be importable."""

import os
import signal
from collections.abc import Callable
from multiprocessing import Process, get_context
from typing import Any

import numpy as np

import zcipc
from zcipc import rpc


def start(function: Callable[..., None], *arguments: Any) -> Process:
    """A process of its own that runs `function(*arguments)`, and ends with this one."""
    process = get_context("spawn").Process(target=function, args=arguments, daemon=True)
    process.start()
    return process  # type: ignore[return-value]  # typeshed knows each start method's process as a class of its own


def greet(end: zcipc.Connection) -> None:
    """Answer every name with a greeting, until the other end closes."""
    while True:
        try:
            name = end.recv()
        except EOFError:
            return
        end.send(f"hello, {name}")


def double(end: zcipc.Connection) -> None:
    """Answer every array with one twice as large, written where the receiver will read it."""
    while True:
        try:
            with end.borrow_object() as array, end.loan(array.nbytes) as buffer:
                np.multiply(array, 2, out=np.frombuffer(buffer, array.dtype).reshape(array.shape))
        except EOFError:
            return


def square(work: "zcipc.Queue", results: "zcipc.Queue") -> None:
    """Take numbers until None comes."""
    while (number := work.get()) is not None:
        results.put(number**2)


class Statistician:
    """A service."""

    def mean(self, samples: np.ndarray[Any, Any]) -> float:
        """The mean of some samples."""
        return float(samples.mean())

    def spread(self, samples: np.ndarray[Any, Any]) -> float:
        """Their range; there must be some."""
        return float(np.ptp(samples))


def serve(name: str) -> None:
    """Serve a `Statistician` to whoever connects to `name`."""
    with zcipc.Listener(name) as listener:
        rpc.serve(Statistician(), listener)


def die(end: zcipc.Connection) -> None:
    """Send one message, and be killed."""
    end.send("last words")
    os.kill(os.getpid(), signal.SIGKILL)
