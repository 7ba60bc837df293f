"""The barrier that the kernel runs in other processes, membarrier(2): its numbers, and to register for it while that is cheap.

Imports nothing of numba, because it has to come first.
"""

import ctypes
import platform
from pathlib import Path

NUMBERS = {"x86_64": 324, "aarch64": 283}  # of the system call, on each architecture that there is code for
NUMBER = NUMBERS[platform.machine()]
QUERY = 0
GLOBAL_EXPEDITED = 1 << 1
REGISTER_GLOBAL_EXPEDITED = 1 << 2


def membarrier(command: int) -> int:
    """The system call, from Python: what it says, or -1 where the kernel lacks it or the command."""
    result: int = ctypes.CDLL(None).syscall(NUMBER, command, 0, 0)
    return result


def register_while_alone() -> None:
    """Let sleepers in other processes order this one's accesses (see `algorithms/waiting.py`), if that takes no time.

    With a single thread a process is registered at once; with several the kernel first waits for every core, some 11 ms. NumPy,
    which comes with numba, starts threads. Whoever is not registered here is when it opens its first end.
    """
    tasks = Path("/proc/self/task")
    if tasks.exists() and len(list(tasks.iterdir())) == 1:
        membarrier(REGISTER_GLOBAL_EXPEDITED)
