"""Order: what takes long comes last, so that small mistakes are seen at once. Nothing hangs, and nothing is left behind."""

import faulthandler
import gc
import multiprocessing
import os
import signal
import time

import pytest

from zcipc.memory.segment import DIRECTORY, PREFIX, stale_segments

LAST = "test_reproduce.py"
HANGS_AFTER = 60  # seconds


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: (item.path.name == LAST, item.get_closest_marker("slow") is not None))


def _segments():
    """Segments made by this process, its children or the dead; other programs may have some meanwhile."""
    own = {os.getpid(), *(child.pid for child in multiprocessing.active_children())}
    dead = {path.name for path in stale_segments()}
    return {path.name for path in DIRECTORY.glob(PREFIX + "*") if path.name in dead or _creator_of(path) in own}


def _creator_of(path):
    try:
        header = path.read_bytes()[:64]
    except OSError:
        return None
    return int.from_bytes(header[32:40], "little") if header.startswith(b"zcipc") else None


def _hangs(_signal, frame):
    faulthandler.dump_traceback()
    raise TimeoutError(f"the test takes more than {HANGS_AFTER} s")


@pytest.fixture
def tidy():
    """The test ends, in time, and leaves no process and no segment."""
    gc.freeze()  # what lives already need not be looked through again
    before, handler = _segments(), signal.signal(signal.SIGALRM, _hangs)
    faulthandler.dump_traceback_later(2 * HANGS_AFTER, exit=True)  # for what does not heed the signal
    signal.alarm(HANGS_AFTER)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        faulthandler.cancel_dump_traceback_later()
        children = multiprocessing.active_children()
        for child in children:
            child.kill()
            child.join()
    assert not children, "processes left"
    gc.collect()
    deadline = time.monotonic() + 2
    while (left := _segments() - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, "shared memory left"


@pytest.fixture(autouse=True)
def _unpinned():
    """A test leaves the process of all tests on the cores it had: pinned, it would pin the processes of all later ones."""
    before = os.sched_getaffinity(0)
    yield
    after = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before)
    assert after == before, "the test pinned the process that runs all tests"
