"""Nothing left, of any kind: an error by name when something is created, nothing half-made, and what there is goes on."""

import ctypes
import os
import resource
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from support import Child

from zcipc import OutOfDescriptors, OutOfSharedMemory, PermissionDenied, Pipe, TimedOut
from zcipc.lab.torture import exhaustion
from zcipc.lab.torture.exhaustion import small_directory
from zcipc.memory.segment import DIRECTORY, PREFIX

pytestmark = pytest.mark.usefixtures("tidy")


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    """The library is, before anything is limited or forked: a child that had to compile it first would seem to hang."""
    left, right = Pipe(capacity=4096)
    with left, right:
        left.send("opens")
        assert right.recv() == "opens"


_MS_REMOUNT, _MS_RDONLY = 32, 1
NOT_HERE = "not here"
AT_ONCE = 5.0  # seconds: generous for what should take none


def names():
    return sorted(path.name for path in DIRECTORY.glob(PREFIX + "*"))


def what_raises(function, *arguments, **keywords):
    """The type of the error, once it is sure that nothing is left of what could not be made."""
    before = names()
    try:
        function(*arguments, **keywords)
    except Exception as error:
        assert names() == before
        return type(error)
    return None


def works(left, right):
    """All of the memory can be written to, which would be a bus error if it were not there."""
    quarter = bytes(left.capacity // 4 - 8)
    for _ in range(5):
        for one, other in ((left, right), (right, left)):
            one.send_bytes(quarter, timeout=AT_ONCE)
            if other.recv_bytes(timeout=AT_ONCE) != quarter:
                return False
    return True


def fill_a_small_directory():
    if not small_directory(Random(1)):  # at most 512 KiB
        return NOT_HERE
    too_large = what_raises(Pipe, capacity=1 << 20)
    pairs, raised = [], None
    while raised is None:
        raised = what_raises(lambda: pairs.append(Pipe(capacity=4096)))
    pairs_work = [works(*pair) for pair in pairs]
    for end in pairs.pop():
        end.close()
    again = what_raises(lambda: pairs.append(Pipe(capacity=4096)))
    return too_large, raised, bool(pairs_work) and all(pairs_work), again


def test_a_full_directory_is_an_error_by_name_and_what_fits_works():
    with Child(fill_a_small_directory) as child:
        outcome = child.outcome()
    if outcome == NOT_HERE:
        pytest.skip("this user may not mount a directory of its own here")
    assert outcome == (OutOfSharedMemory, OutOfSharedMemory, True, None)


def use_a_read_only_directory():
    if not small_directory(Random(1)):
        return NOT_HERE
    ctypes.CDLL(None).mount(b"tmpfs", bytes(DIRECTORY), b"tmpfs", _MS_REMOUNT | _MS_RDONLY, None)
    return what_raises(Pipe)


def test_a_directory_that_cannot_be_written_is_an_error_by_name():
    with Child(use_a_read_only_directory) as child:
        outcome = child.outcome()
    if outcome == NOT_HERE:
        pytest.skip("this user may not mount a directory of its own here")
    assert outcome is PermissionDenied


def use_up_descriptors():
    left, right = Pipe(capacity=4096)
    works(left, right)
    before, raised, files = names(), [], []
    used = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with suppress(OSError):
        while True:
            files.append(os.open("/dev/null", os.O_RDONLY))
    for call in (Pipe, Pipe, lambda: left.recv(timeout=0.12)):  # longer than it takes to look for the peer
        try:
            call()
        except Exception as error:
            raised.append(type(error))
    goes_on = works(left, right)
    for file in files:
        os.close(file)
    return raised, goes_on, names() == before


def test_no_descriptor_is_an_error_by_name_and_connections_go_on():
    with Child(use_up_descriptors) as child:
        assert child.outcome() == ([OutOfDescriptors, OutOfDescriptors, TimedOut], True, True)


def use_up_addresses():
    left, right = Pipe(capacity=4096)
    works(left, right)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 22), -1))
    return what_raises(Pipe, capacity=1 << 24), works(*Pipe(capacity=4096)), works(left, right)


def test_no_memory_is_an_error_by_name_and_what_fits_works():
    with Child(use_up_addresses) as child:
        assert child.outcome() == (OutOfSharedMemory, True, True)


def test_shortages_at_random():
    tally = exhaustion.exhaustion(Random(20242))
    assert tally.failures == []
    assert tally.exhaustions >= 3
