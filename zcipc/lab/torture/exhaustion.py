"""Nothing left: no room in `/dev/shm`, no descriptors, no memory. Creating says so by name, and what was created works.

Each victim makes a shortage that only it has: a tiny file system of its own at `/dev/shm`, where the system lets a user have
one, or a limit of its own.
"""

import ctypes
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

from zcipc import Connection, Pipe, ZcipcError
from zcipc.lab.torture.messages import number_of, sealed
from zcipc.lab.torture.processes import PATIENCE_S, Victim, count_outcome
from zcipc.lab.torture.tally import Tally
from zcipc.memory.segment import DIRECTORY, PREFIX

_ATTEMPTS = 20  # a victim
_AMPLE_BYTES = 1 << 26
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000


class _HalfMade(Exception):
    """What could not be created left something behind, or what was created does not work."""


def exhaustion(random: Random) -> Tally:
    """One round: a victim for each shortage."""
    tally = Tally()
    _exchange(*Pipe())  # all is compiled before anything runs short
    for shortage in SHORTAGES:
        seed = random.getrandbits(32)
        with Victim(lambda shortage=shortage, seed=seed: _suffer(shortage, Random(seed))) as victim:  # type: ignore[misc]
            deadline = time.monotonic() + PATIENCE_S
            count_outcome(victim.outcome(lambda: time.monotonic() > deadline), tally, f"{shortage} {seed}")  # noqa: B023
        tally.exhaustions += 1
    return tally


def _suffer(shortage: str, random: Random) -> None:
    alone = SHORTAGES[shortage](random)
    kept: list[Connection] = []
    for _ in range(_ATTEMPTS):
        before = _names()
        try:
            pair = Pipe(capacity=1 << random.randint(12, 18))
        except (ZcipcError, MemoryError):
            if alone and _names() != before:
                raise _HalfMade("a connection that could not be created left a name") from None
            for end in kept:
                end.close()
            kept.clear()
            continue
        with suppress(ZcipcError, MemoryError):  # nothing left to look who sits at the other end
            _exchange(*pair)
        kept += pair
    for end in kept:
        end.close()
    if alone and _names():
        raise _HalfMade("a connection that was closed left a name")


def _exchange(left: Connection, right: Connection) -> None:
    """Fill the queue to its end, which would be a bus error if its memory were not there."""
    while True:
        message = sealed(1, min(1000, left.capacity // 4))
        left.send_bytes(message)
        if number_of(right.recv_bytes()) != 1:
            raise _HalfMade("a message is torn")
        if left.statistics().messages_sent * len(message) > left.capacity:
            return


def _names() -> set[str]:
    with _unlimited(resource.RLIMIT_NOFILE), _unlimited(resource.RLIMIT_AS):  # looking takes a descriptor and memory
        return {path.name for path in DIRECTORY.glob(PREFIX + "*")}


@contextmanager
def _unlimited(kind: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def _limit(kind: int, soft: int) -> None:
    resource.setrlimit(kind, (soft, resource.getrlimit(kind)[1]))


def small_directory(random: Random) -> bool:
    """A `/dev/shm` of 64 to 512 KiB."""
    return _own_directory(random.randint(16, 128) * 4096)


def few_descriptors(random: Random) -> bool:
    """A limit of up to 5 descriptors more than there are."""
    alone = _own_directory(_AMPLE_BYTES)
    limit = max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + random.randint(0, 5)
    _limit(resource.RLIMIT_NOFILE, limit)
    return alone


def little_memory(random: Random) -> bool:
    """A limit of up to 2 MiB of addresses more than there are."""
    alone = _own_directory(_AMPLE_BYTES)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + random.randint(0, 1 << 21))
    return alone


SHORTAGES: Mapping[str, Callable[[Random], bool]] = {
    shortage.__name__: shortage for shortage in (small_directory, few_descriptors, little_memory)
}
"""Each makes its shortage in this process; whether what is in `/dev/shm` is this process's alone."""


def _own_directory(size: int) -> bool:
    """Give this process a `/dev/shm` of its own, of `size` bytes; False, and nothing done, where a user may not have one."""
    libc = ctypes.CDLL(None)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS) != 0:
        return False
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return bool(libc.mount(b"tmpfs", bytes(DIRECTORY), b"tmpfs", 0, f"size={size}".encode()) == 0)
