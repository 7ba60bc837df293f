"""Whatever a hostile or broken peer writes is a named error or some message: never a crash, a wild access, or a hang."""

import os
import struct
from contextlib import suppress
from random import Random

import numpy as np
import pytest
from support import Child

import zcipc
from zcipc import CorruptSegment, Pipe, ZcipcError, codec
from zcipc.algorithms.doorbell import where_to_ring
from zcipc.algorithms.ring import CONSUMER_BELL, LINE
from zcipc.algorithms.waiting import AWAITED, AWAKE, SLEEPING, WATCHED
from zcipc.ends.end import control_offset
from zcipc.ends.methods import entries
from zcipc.lab.torture import corruption
from zcipc.lab.torture.corruption import some_value
from zcipc.memory.segment import HEADER_BYTES

pytestmark = pytest.mark.usefixtures("tidy")


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    """The library is, before anything is limited or forked: a child that had to compile it first would seem to hang."""
    left, right = Pipe(capacity=4096)
    with left, right:
        left.send("opens")
        assert right.recv() == "opens"


AT_ONCE = 5.0  # seconds: generous for what should take none


@pytest.fixture
def ends():
    left, right = Pipe(capacity=4096)
    with left, right:
        yield left, right


def array_frame(name, shape, content=b"\x41" * 64):
    """A message that says it is an array, whatever sense that makes."""
    return codec._ARRAY.pack(len(shape), 0, len(name)) + struct.pack(f"<{len(shape)}q", *shape) + name + content


# --- what a word says


def test_any_word_with_any_value_is_an_error_by_name_or_a_message():
    tally = corruption.corruption(Random(20241))
    assert tally.failures == []
    assert tally.corruptions == corruption.CASES


PIDS = [-(1 << 63), -(1 << 31), -1, 1 << 22, 1 << 31, 1 << 32, (1 << 63) - 1]


@pytest.mark.parametrize("taken", [0, 1])
@pytest.mark.parametrize("pid", PIDS)
def test_an_end_opens_though_the_other_seat_holds_what_is_no_process(ends, pid, taken):
    left, _ = ends
    struct.pack_into("<4q", left._segment.buffer, HEADER_BYTES + LINE, pid, 1, 1, taken)
    for call in (left.poll, lambda: left.recv(timeout=0.06), lambda: left.send_bytes(b"any"), left.statistics):
        with suppress(ZcipcError):
            call()
    left.close()


def open_among_random_words(seed):
    """Take a seat where every word before the data is random."""
    random = Random(seed)
    for _ in range(300):
        left, right = Pipe(capacity=4096)
        start = HEADER_BYTES + LINE * random.randrange(2) if random.random() < 0.5 else HEADER_BYTES
        for offset in range(start, corruption.CONTROL_END, 8):
            if random.random() < 0.3:
                struct.pack_into("<q", left._segment.buffer, offset, some_value(random))
        for end in (left, right):
            for call in (end.poll, lambda end=end: end.send(1, timeout=0), lambda end=end: end.recv_bytes(timeout=0)):
                with suppress(ZcipcError):
                    call()
            end.close()
    return "survived"


def test_an_end_opens_or_says_why_not_whatever_the_words_are():
    with Child(open_among_random_words, 7) as child:
        assert child.outcome() == "survived"


def test_a_bell_cannot_make_this_process_write_to_a_file(ends, tmp_path):
    """Where to ring is the peer's word for a descriptor, which is opened once more and written to."""
    left, right = ends
    left.send_bytes(b"opens")
    right.recv_bytes()
    path = tmp_path / "file"
    path.write_bytes(b"precious")
    with path.open("r+b") as file:
        bell = control_offset(0) + CONSUMER_BELL
        for offset, value in ((WATCHED, where_to_ring(os.getpid(), file.fileno())), (AWAITED, -1), (0, SLEEPING)):
            struct.pack_into("<q", left._segment.buffer, bell + offset, value)
        left.send_bytes(b"rings")
        assert struct.unpack_from("<q", left._segment.buffer, bell) == (AWAKE,)
    assert path.read_bytes() == b"precious"


# --- what a message says

LIES = {
    "objects": (b"|O", (1,)),
    "objects by another name": (b"O8", (1,)),
    "objects in a structure": (b"f8,O", (1,)),
    "a structure": (b"i4,i4", (1,)),
    "arrays as elements": (b"(2,)f8", (1,)),
    "strings elsewhere": (b"T", (1,)),
    "items of no size": (b"|V0", (1 << 40,)),
    "texts of no size": (b"|S0", (1 << 40,)),
    "an alias": (b"a", (1,)),
    "no name": (b"", (1,)),
    "a name that is no text": (b"\xff\x00", (1,)),
    "a name that is a program": (b"(" * 1000 + b"1,)f8", (1,)),
    "an endless item": (b"<U999999999", (1,)),
    "an impossible unit": (b"<M8[99999999999D]", (1,)),
    "too many items": (b"<f8", (1 << 40,)),
    "a product that overflows": (b"<f8", (1 << 32, 1 << 32)),
    "a product that overflows to nothing": (b"<f8", (0, 1 << 62, 1 << 62)),
    "negative dimensions": (b"<f8", (-2, -4)),
    "too many dimensions": (b"<f8", (1,) * 200),
    "a structure without fields": (b"[]", (1 << 40,)),
    "a structure of items of no size": (b"[('a', '<V0')]", (1 << 40,)),
    "a structure of no items": (b"[('a', '<f8', (0,))]", (1 << 40,)),
    "a structure of objects": (b"[('a', '<f8'), ('b', '|O')]", (1,)),
    "a nested description": (b"[" * 30_000, (1,)),
    "a description of many signs": (b"[" + b"-" * 60_000 + b"1]", (1,)),
    "a description of a long sum": (b"[" + b"1+" * 30_000 + b"1]", (1,)),
    "a description that is no list": (b"[1, 2]", (1,)),
    "a description of one thing": (b"[()]", (1,)),
    "a field twice": (b"[('a', '<f8'), ('a', '<f8')]", (1,)),
    "a field of endless items": (b"[('a', '<f8', (1000000000, 1000000000, 1000000000))]", (1,)),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_array_that_is_none_is_corrupt(lie):
    left, right = Pipe(capacity=1 << 17)
    with left, right:
        left.send("opens")
        right.recv()
        entries.send(left, array_frame(*LIES[lie]), codec.ARRAY)
        with pytest.raises(CorruptSegment, match="does not decode"):
            right.recv(timeout=AT_ONCE)
        left.send("usable")
        assert right.recv(timeout=AT_ONCE) == "usable"


def decode_mutations(seed):
    """Frames of arrays with some bytes changed: each decodes to an array no larger than its message, or is corrupt."""
    random, decoded = Random(seed), 0
    names = [b"<f8", b"|u1", b"<M8[25s]", b"<U3", b"|S5", b">c16", b"|V8", b"[('a', '<f8'), ('b', '<i4', (2,))]"]
    for _ in range(20_000):
        frame = bytearray(array_frame(random.choice(names), [random.randint(0, 4) for _ in range(random.randint(0, 4))]))
        for _ in range(random.randint(1, 3)):
            frame[random.randrange(min(len(frame), 50))] = random.choice((0, 1, 255, 0x4F, random.randrange(256)))
        try:
            array = codec.decode(codec.ARRAY, memoryview(frame)[: random.choice((len(frame), random.randint(0, len(frame))))])
        except CorruptSegment:
            continue
        assert array.nbytes <= len(frame)
        assert not array.dtype.hasobject
        decoded += 1
    return decoded


def test_a_frame_with_changed_bytes_is_corrupt_or_an_array():
    with Child(decode_mutations, 3) as child:
        assert child.outcome() > 1000


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, "V0"),
        np.zeros(3, "V5"),
        np.array(["", "a"], np.dtypes.StringDType()),
        np.zeros(2, "M8[25s]"),
        np.zeros(2, "g"),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_of_unusual_items_arrive_all_the_same(ends, array):
    left, right = ends
    left.send(array)
    received = right.recv(timeout=AT_ONCE)
    assert (received.dtype, received.shape, received.tolist()) == (array.dtype, array.shape, array.tolist())


@pytest.mark.parametrize("frame", [(-1, 0), (1 << 62, 0), (1, 1 << 62), (0, -(1 << 63)), (1 << 40, -1)])
def test_a_pickle_beside_impossible_buffers_is_an_error(ends, frame):
    left, right = ends
    left.send("opens")
    right.recv()
    entries.send(left, codec._PICKLE.pack(*frame) + bytes(64), codec.PICKLE_AND_BUFFERS)
    with pytest.raises(zcipc.CorruptSegment):
        right.recv(timeout=AT_ONCE)
