"""The design choices of zcipc, switched one at a time: transports that differ from one that is shipped in one thing each.

What the library can switch is switched in the library; the rest in one small queue that holds the same choices (`queue.py`).
"""

from collections.abc import Callable
from functools import partial

from zcipc.lab.transports import TRANSPORTS, Transport
from zcipc.lab.transports.ring import Loaning
from zcipc.lab.variants import queue
from zcipc.lab.variants.calls import Dispatcher, EntryPoint
from zcipc.lab.variants.memory import Hugetlb, Populated, Reserved, TransparentHuge, Unavailable, Untouched
from zcipc.lab.variants.waiting import Fenced, Semaphores, Sleeping, Spinning

__all__ = ["TYPED_VARIANTS", "VARIANTS", "EntryPoint", "Unavailable"]

_LARGE = 16 << 20  # bytes; a queue that is worth huge pages, and takes long to touch


class Capacity4K(Loaning):
    """Both queues in the smallest cache."""

    capacity = 4 << 10


class Capacity64K(Loaning):
    """Both queues in the second cache."""

    capacity = 64 << 10


class Capacity16M(Loaning):
    """Queues of which every message meets a line that has long left the caches near a core."""

    capacity = 16 << 20


VARIANTS: dict[str, Callable[[int], Transport]] = {
    "queue": queue.shipped,
    "separate_indices": queue.separate_indices,
    "read_each_time": queue.read_each_time,
    "line_64": queue.line_64,
    "no_padding": queue.no_padding,
    "aligned_64": queue.aligned_64,
    "copying": TRANSPORTS["zcipc"],
    "loaning": TRANSPORTS["zcipc_loan"],
    "fenced": Fenced,
    "spinning": Spinning,
    "sleeping": Sleeping,
    "semaphores": Semaphores,
    "entry_point": EntryPoint,
    "dispatcher": Dispatcher,
    "capacity_4k": Capacity4K,
    "capacity_64k": Capacity64K,
    "capacity_16m": Capacity16M,
    "reserved": partial(queue.shipped, memory=Reserved, capacity=_LARGE),
    "untouched": partial(queue.shipped, memory=Untouched, capacity=_LARGE),
    "populated": partial(queue.shipped, memory=Populated, capacity=_LARGE),
    "transparent_huge": partial(queue.shipped, memory=TransparentHuge, capacity=_LARGE),
    "hugetlb": partial(queue.shipped, memory=Hugetlb, capacity=_LARGE),
}

# Those whose ends have types of their own, for which loops are compiled.
TYPED_VARIANTS = (
    "queue",
    "separate_indices",
    "read_each_time",
    "line_64",
    "no_padding",
    "aligned_64",
    "semaphores",
)
