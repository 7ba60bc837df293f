"""What importing the package may cost."""

import contextlib
import gc
from collections.abc import Iterator

import numba  # noqa: F401  # before the block, because what it drops meanwhile is better collected


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Collect no garbage in the block, for imports: all that they make stays. After it, look at what is new, once.

    Functions to be compiled consist of so many objects that Python would look at everything there is, numba included, twice on
    the way. That took 40 ms, a seventh of all.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
            gc.collect(0)
