"""Launches: fresh processes for each measurement, in pairs, pinned to cores, ended whatever happens.

A launch is a process forked from a server that has imported and compiled everything and done nothing else. It makes a
transport, forks its partner, and both run one side of an experiment. Nothing of the process that asks (a notebook, a test, a
terminal) is copied into it.
"""

import ctypes
import mmap
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from zcipc.lab.errors import LabError

_PR_SET_PDEATHSIG = 1
_PATIENCE_S = 300.0

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["zcipc.lab.warm"])


class LaunchFailed(LabError):
    """A measuring process raised, died or hung."""


@contextmanager
def launched(task: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    """A fresh process that runs `task(connection, *arguments)`, killed with its partner when the block ends."""
    here, there = _context.Pipe()
    process = _context.Process(target=_run, args=(there, task, arguments), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        with suppress(ProcessLookupError):  # it ended by itself, or did not get so far as to make its group
            os.killpg(_pid(process), signal.SIGKILL)
        process.kill()
        process.join()
        here.close()


def _pid(process: BaseProcess) -> int:
    if process.pid is None:
        raise LaunchFailed("a measuring process did not start")
    return process.pid


def answer(connection: Connection, patience: float = _PATIENCE_S) -> Any:
    """What the launched process sends next.

    Raises:
        LaunchFailed: it raised, died, or said nothing for `patience` seconds.
    """
    if not connection.poll(patience):
        raise LaunchFailed(f"a measuring process said nothing for {patience:g} s")
    try:
        kind, content = connection.recv()
    except EOFError:
        raise LaunchFailed("a measuring process died") from None
    if kind == "error":
        raise LaunchFailed(f"a measuring process failed:\n{content}")
    return content


def measure(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` in a fresh process."""
    with launched(call, function, arguments) as connection:
        return answer(connection)


def call(connection: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """What a launch does that calls one function: answer with its result."""
    connection.send(("result", function(*arguments)))


def _run(connection: Connection, task: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.setsid()  # a group of its own, to be killed as one; and the terminal's Ctrl-C goes to the parent alone
    _die_with_parent()
    try:
        task(connection, *arguments)
    except Exception:
        connection.send(("error", traceback.format_exc()))


class Partner:
    """The forked second process of a launch: runs `function()` on core 1 while its maker runs on core 0."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                _die_with_parent()
                pin(1)
                function()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        pin(0)

    def join(self) -> None:
        """Wait for its end.

        Raises:
            LaunchFailed: it failed.
        """
        _, status = os.waitpid(self.pid, 0)
        if status != 0:
            raise LaunchFailed(f"the second process of a pair ended with status {os.waitstatus_to_exitcode(status)}")


def pin(index: int) -> None:
    """Keep this process on the `index`-th core it may use, as far as there are that many and the system allows it."""
    cores = sorted(_CORES)
    try:
        os.sched_setaffinity(0, {cores[index % len(cores)]})
    except PermissionError:  # recorded by zcipc.lab.runs.machine: then the scheduler decides
        return


def unpin() -> None:
    """Let this process use every core again."""
    with suppress(PermissionError):
        os.sched_setaffinity(0, _CORES)


_CORES = os.sched_getaffinity(0)


def shared_array(count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """`count` zeroed integers that a process and those it forks all see."""
    return np.frombuffer(mmap.mmap(-1, max(count, 1) * 8), np.int64)[:count]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
