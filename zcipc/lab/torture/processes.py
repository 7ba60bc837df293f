"""Victims: forked processes that do one thing and are killed for it, and what must not be left of them."""

import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zcipc.lab.torture.tally import Tally
from zcipc.memory.segment import DIRECTORY

PATIENCE_S = 10.0  # nothing takes as long unless it hangs
NOTICE_S = 0.25  # a survivor knows of the death by then


class Victim:
    """A forked process that runs `task()`, and then waits for its death."""

    def __init__(self, task: Callable[[], object]) -> None:
        self.pid = os.fork()
        self._ended = False
        if self.pid == 0:
            status = 1
            try:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the survivor's
                task()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Its status, once it has ended or stopped, as `os.waitpid` gives it."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        self._ended = not os.WIFSTOPPED(status)
        return status

    def outcome(self, is_hanging: Callable[[], bool]) -> int | None:
        """Its status once it has ended by itself; None if `is_hanging()` is true before."""
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid != 0:
                self._ended = True
                return status
            if is_hanging():
                return None
            time.sleep(0.0005)

    def kill(self) -> None:
        """End it, if it has not ended, and leave no zombie."""
        if not self._ended:
            with suppress(ProcessLookupError):
                self.send(signal.SIGKILL)
            while not self._ended:
                self.wait()

    def __enter__(self) -> "Victim":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def count_outcome(status: int | None, tally: Tally, step: str) -> None:
    """A victim that should have ended by itself and without an error: count what it did instead. See `Victim.outcome`."""
    if status is None:
        tally.fault("hangs", step)
    elif os.WIFSIGNALED(status):
        tally.fault("crashes", f"by signal {os.WTERMSIG(status)}, {step}")
    elif status != 0:
        tally.fault("crashes", f"by an error that is none of the package, printed above, {step}")


def eventually(condition: Callable[[], bool], within: float = PATIENCE_S) -> bool:
    """Whether `condition()` becomes true in time."""
    deadline = time.monotonic() + within
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.0002)
    return met


def goes_on(progress: Callable[[], int], within: float = NOTICE_S) -> bool:
    """Whether `progress()` grows in time."""
    before = progress()
    return eventually(lambda: progress() > before, within)


@contextmanager
def nothing_left(tally: Tally, step: str) -> Iterator[list[str]]:
    """Count as leaks the descriptors that the block opens, and the segments that outlive it. It lists their names."""
    names: list[str] = []
    before = _descriptors()
    yield names
    tally.fault("leaks", f"descriptors, {step}", max(_descriptors() - before, 0))
    left = [name for name in names if (DIRECTORY / name).exists()]
    tally.fault("leaks", f"names in {DIRECTORY}, {step}", len(left))
    for name in left:
        (DIRECTORY / name).unlink()


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
