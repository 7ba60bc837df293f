"""A queue is that of the standard library, only faster: items once and in order, whoever is killed."""

import ctypes
import gc
import logging
import multiprocessing
import os
import queue
import random
import signal
import socket
import struct
import threading
import time
import unittest
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import PATIENCE, Child, eventually

from zcipc import JoinableQueue, MessageTooLarge, Queue, SimpleQueue
from zcipc.algorithms import ring
from zcipc.algorithms import shared_queue as core
from zcipc.lab.torture.processes import Victim
from zcipc.lab.torture.stepping import AVAILABLE, Stepper, address_of, be_traced

pytestmark = pytest.mark.usefixtures("tidy")

METHODS = ("fork", "spawn", "forkserver")
CAPACITY = 4096
LIMIT_S = 0.25  # what a killed process may cost the others
GOT = struct.Struct("<qq")  # producer, number


@pytest.fixture
def items():
    return Queue(capacity=CAPACITY)


# --- workers


def produce(items, producer, count):
    for number in range(count):
        items.put((producer, number, bytes(number % 300)), timeout=PATIENCE)
    return "put"


def consume(items, descriptor):
    """Write down what is got, until there is a None."""
    while (item := items.get(timeout=PATIENCE)) is not None:
        os.write(descriptor, GOT.pack(*item[:2]))
    return "got"


def echo(requests, answers):
    while (item := requests.get(timeout=PATIENCE)) is not None:
        answers.put(item, timeout=PATIENCE)
    return "echoed"


def use_received(connection):
    connection.recv().put("through the connection")


def finish(items, count):
    for _ in range(count):
        items.get(timeout=PATIENCE)
        time.sleep(0.01)
        items.task_done()


def log(items):
    logger = logging.getLogger("of a child")
    logger.addHandler(QueueHandler(items))
    logger.warning("%d apples", 17)
    return "logged"


def remember(items):
    remember.items = items


def put_remembered(item):
    remember.items.put(item)


def die_holding(items, side):
    """Leave behind what a process does that is killed while it has the lock of a side."""
    items._open()
    shared_word(items, side + core.LOCK).value = own_word(items, core.ME)
    os.kill(os.getpid(), signal.SIGKILL)


def shared_word(items, offset):
    return ctypes.c_int64.from_address(items._memory.address + offset)


def own_word(items, offset):
    return ctypes.c_int64.from_address(items.end + offset).value


def killed_holding(items, side):
    child = multiprocessing.get_context("fork").Process(target=die_holding, args=(items, side))
    child.start()
    child.join(PATIENCE)
    assert child.exitcode == -signal.SIGKILL


# --- the vocabulary of multiprocessing


def test_items_come_out_as_they_went_in(items):
    read, write = socket.socketpair()
    objects = [
        None,
        b"",
        b"bytes",
        "text",
        1.5,
        {"a": [1, (2,)]},
        bytearray(b"mutable"),
        np.arange(12.0).reshape(3, 4)[::2, ::2],
    ]
    for obj in objects:
        items.put(obj)
    for obj in objects:
        found = items.get()
        assert type(found) is type(obj)
        assert np.array_equal(found, obj)
    items.put(read)  # what only multiprocessing can pickle
    with read, write, items.get() as passed:
        write.send(b"x")
        assert passed.recv(1) == b"x"


@pytest.mark.parametrize("one", [1, b"1"], ids=["object", "bytes"])
def test_full_and_empty_are_those_of_the_standard_library(one):
    items = Queue(2, capacity=CAPACITY)
    items.put(one)
    items.put_nowait(2)
    assert (items.qsize(), items.full(), items.empty()) == (2, True, False)
    with pytest.raises(queue.Full):
        items.put_nowait(one)
    start = time.monotonic()
    with pytest.raises(queue.Full):
        items.put(one, timeout=0.1)
    assert time.monotonic() - start >= 0.1
    assert [items.get(), items.get_nowait()] == [one, 2]
    assert (items.qsize(), items.full(), items.empty()) == (0, False, True)
    with pytest.raises(queue.Empty):
        items.get_nowait()
    with pytest.raises(queue.Empty):
        items.get(True, 0.1)


def test_the_arguments_are_those_of_the_standard_library(items):
    for number, put in enumerate(
        (
            lambda item: items.put(item, True, 1.0),
            lambda item: items.put(item, False),
            lambda item: items.put(item, timeout=1.0),
            lambda item: items.put(item, block=False),
            lambda item: items.put(block=True, timeout=None, obj=item),
        )
    ):
        put(b"%d" % number)
    gets = (
        lambda: items.get(True, 1.0),
        lambda: items.get(False),
        lambda: items.get(timeout=1.0),
        lambda: items.get(block=False),
        lambda: items.get(timeout=None, block=True),
    )
    assert [get() for get in gets] == [b"0", b"1", b"2", b"3", b"4"]
    items.put(b"still there")
    for call in (
        lambda: items.put(),
        lambda: items.put(b"", True, 1.0, 0),
        lambda: items.put(b"", True, timeout=1.0, block=True),
        lambda: items.put(b"", wait=True),
        lambda: items.get(True, 1.0, 0),
        lambda: items.get(True, block=True),
        lambda: items.get(wait=True),
    ):
        with pytest.raises(TypeError):
            call()
    assert items.get_many() == [b"still there"]


def test_without_maxsize_the_memory_is_the_limit(items):
    for _ in range(CAPACITY // 16 - 1):
        assert not items.full()
        items.put_nowait(bytes(8))
    assert items.full()
    with pytest.raises(queue.Full):
        items.put_nowait(bytes(8))


def test_an_item_of_nearly_the_whole_memory_passes_wherever_the_ring_is(items):
    largest = ring.max_message.py_func(CAPACITY)
    for offset in range(0, 2000, 8):
        items.put(bytes(offset))
        assert len(items.get()) == offset
        putting = threading.Thread(target=items.put, args=(bytes(largest),))
        putting.start()
        assert len(items.get(timeout=PATIENCE)) == largest
        putting.join(PATIENCE)
    with pytest.raises(MessageTooLarge, match=r"capacity=8192"):
        items.put(bytes(largest + 1))


def test_a_closed_queue_is_closed_here_alone(items):
    other = pickle_copy(items)
    items.put(1)
    items.close()
    items.join_thread()
    items.cancel_join_thread()
    for call in (lambda: items.put(2), lambda: items.put(b"2"), items.get):
        with pytest.raises(ValueError, match="is closed"):
            call()
    assert other.get() == 1


def pickle_copy(items):
    left, right = multiprocessing.Pipe()
    left.send(items)
    return right.recv()


def test_a_time_out_in_the_past_is_none(items):
    with pytest.raises(queue.Empty):
        items.get(timeout=-1)


def test_the_tests_of_the_standard_library_pass(monkeypatch):
    """CPython's own but those that put what cannot be pickled, which `put` itself refuses here, that look at the pipe inside,
    and that want an error of `empty` after `close`, where it still answers here."""
    theirs = pytest.importorskip("test._test_multiprocessing")
    for name, kind in (("Queue", Queue), ("JoinableQueue", JoinableQueue), ("SimpleQueue", SimpleQueue)):
        monkeypatch.setattr(multiprocessing, name, kind)

    class Queues(theirs._TestQueue, unittest.TestCase):
        TYPE = "processes"
        Queue, JoinableQueue = Queue, JoinableQueue
        Process, Event = multiprocessing.Process, staticmethod(multiprocessing.Event)
        current_process = staticmethod(multiprocessing.current_process)
        test_queue_feeder_donot_stop_onexc = test_closed_queue_empty_exceptions = None

    class SimpleQueues(theirs.TestSimpleQueue):
        test_closed = test_empty_exceptions = None

    load = unittest.defaultTestLoader.loadTestsFromTestCase
    result = unittest.TestSuite([load(Queues), load(SimpleQueues)]).run(unittest.TestResult())
    assert result.testsRun >= 11
    assert not result.errors + result.failures


# --- the vocabulary of faster_fifo


def test_many_at_once(items):
    items.put_many(range(5))
    items.put(5)
    assert items.get_many(max_messages_to_get=2) == [0, 1]
    assert items.get_many() == [2, 3, 4, 5]
    with pytest.raises(queue.Empty):
        items.get_many_nowait()
    items.put_many([])
    assert items.empty()


def test_a_spoilt_count_is_not_believed(items):
    items.put_many([1, 2])
    shared_word(items, core.PRODUCERS + core.COUNTED).value = 1 << 62
    assert items.get_many() == [1, 2]


def test_many_are_put_all_or_none():
    items = Queue(3, max_size_bytes=CAPACITY)
    items.put(0)
    with pytest.raises(queue.Full):
        items.put_many_nowait([1, 2, 3])
    items.put_many([1, 2])
    assert items.get_many() == [0, 1, 2]
    with pytest.raises(MessageTooLarge):
        items.put_many(range(4))
    with pytest.raises(MessageTooLarge):
        Queue(capacity=CAPACITY).put_many([bytes(1000)] * 3)


def test_other_ways_to_make_bytes_of_an_object():
    items = Queue(loads=lambda data: int(data), dumps=lambda obj: str(obj).encode(), capacity=CAPACITY)
    items.put(17)
    assert items.get() == 17
    with pytest.raises(TypeError):
        Queue(dumps=lambda obj: "no bytes", capacity=CAPACITY).put(17)


# --- in a program


class Undecodable:
    def __reduce__(self):
        return int, ("not a number",)


def test_an_item_that_cannot_be_made_again_is_an_error_of_its_receiver(items):
    for get in (items.get, items.get_many):
        items.put(Undecodable())
        with pytest.raises(ValueError, match="not a number"):
            get()
        items.put(1)
        assert items.get() == 1


def test_an_item_that_cannot_be_pickled_is_an_error_of_put_and_spoils_nothing(items):
    with pytest.raises(AttributeError, match="local object"):
        items.put(["half of it", lambda: None])
    items.put("whole")
    assert items.get() == "whole"


def test_a_finalizer_may_use_the_queue_that_is_in_use(items):
    """The garbage collector runs it wherever an object is made: never while this process has the lock."""
    results = []

    class Cycle:
        def __init__(self):
            self.me = self

        def __del__(self):
            try:
                items.put(b"from a finalizer", timeout=LIMIT_S)
                results.append(items.get(timeout=LIMIT_S))
            except (queue.Full, queue.Empty) as failure:
                results.append(failure)

    thresholds = gc.get_threshold()
    for allocations in range(1, 20):
        items.put_many([b"bytes", 1, "text"])
        gc.disable()
        Cycle()
        gc.set_threshold(allocations)
        gc.enable()
        items.get_many()
        gc.set_threshold(*thresholds)
    assert results
    assert all(type(result) in (bytes, int, str) for result in results)


def test_it_carries_the_log_of_other_processes(items):
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    listener = QueueListener(items, handler)
    listener.start()
    with Child(log, items) as child:
        assert child.outcome() == "logged"
    listener.stop()
    assert [record.getMessage() for record in records] == ["17 apples"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_it_reaches_the_workers_of_a_pool(method, items):
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, context, initializer=remember, initargs=(items,)) as pool:
        assert pool.submit(put_remembered, "by a worker").result(PATIENCE) is None
        assert items.get(timeout=PATIENCE) == "by a worker"


# --- between processes


@pytest.mark.parametrize("method", METHODS)
def test_it_goes_to_children(method):
    requests, answers = Queue(capacity=CAPACITY), Queue(capacity=CAPACITY)
    with Child(echo, requests, answers, method=method) as child:
        for item in (1, "two", bytes(1000), np.arange(3)):
            requests.put(item)
            assert np.array_equal(answers.get(timeout=PATIENCE), item)
        requests.put(None)
        assert child.outcome() == "echoed"


def test_it_goes_through_a_connection(items):
    ours, theirs = multiprocessing.Pipe()
    with Child(use_received, theirs):
        ours.send(items)
        assert items.get(timeout=PATIENCE) == "through the connection"


def test_it_has_no_name_and_leaves_no_descriptor():
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    items = Queue()
    start = f"{items._memory.address:x}-"
    (mapping,) = (line for line in Path("/proc/self/maps").read_text().splitlines() if line.startswith(start))
    assert mapping.endswith("/memfd:zcipc-queue (deleted)")
    assert descriptors() == before + 2  # ours, and the mapping's
    del items
    assert descriptors() == before


def test_large_items_between_processes():
    requests, answers = Queue(), Queue()
    with Child(echo, requests, answers):
        for size in (1 << 10, 1 << 15, 1 << 18, (1 << 20) - 1000):
            item = os.urandom(size)
            requests.put(item)
            assert answers.get(timeout=PATIENCE) == item
        requests.put(None)


def test_threads_of_a_process_are_served_alike():
    items, got = Queue(capacity=CAPACITY), Queue()
    consumers = [threading.Thread(target=echo, args=(items, got)) for _ in range(3)]
    producers = [threading.Thread(target=produce, args=(items, producer, 500)) for producer in range(3)]
    for thread in consumers + producers:
        thread.start()
    found = Counter(got.get(timeout=PATIENCE)[:2] for _ in range(1500))
    for _ in consumers:
        items.put(None)
    for thread in consumers + producers:
        thread.join(PATIENCE)
    assert found == Counter((producer, number) for producer in range(3) for number in range(500))


def test_finished_items_are_counted():
    items = JoinableQueue(capacity=CAPACITY)
    items.join()
    items.put_many(range(10))
    with Child(finish, items, 10):
        items.join()
        assert items.empty()
    with pytest.raises(ValueError, match="too many times"):
        items.task_done()


# --- death


@pytest.mark.parametrize("side", [core.PRODUCERS, core.CONSUMERS], ids=["producer", "consumer"])
def test_a_lock_of_the_dead_is_taken_over(items, side):
    items.put("before")
    killed_holding(items, side)
    start = time.monotonic()
    items.put("after", timeout=PATIENCE)
    assert [items.get(timeout=PATIENCE), items.get(timeout=PATIENCE)] == ["before", "after"]
    assert time.monotonic() - start < LIMIT_S


def test_what_the_dead_published_is_counted_once(items):
    for _ in range(10):  # published and not counted: the state of a moment ago
        items.put(bytes(100))
        before = [
            shared_word(items, core.PRODUCERS + offset).value for offset in (core.COUNTED, core.POSITIONS, core.POSITIONS + 8)
        ]
        items.put("the dead one's")
        for offset, value in zip((core.COUNTED, core.POSITIONS, core.POSITIONS + 8), before, strict=True):
            shared_word(items, core.PRODUCERS + offset).value = value
        killed_holding(items, core.PRODUCERS)
        items.put("after", timeout=PATIENCE)
        assert items.qsize() == 3
        assert items.get_many() == [bytes(100), "the dead one's", "after"]


def test_what_the_dead_took_is_released(items):
    for _ in range(10):  # counted and not released
        items.put_many([bytes(100), "next"])
        head = shared_word(items, core.RING + ring.HEAD).value
        items.get()
        shared_word(items, core.RING + ring.HEAD).value = head
        killed_holding(items, core.CONSUMERS)
        assert items.get(timeout=PATIENCE) == "next"
        assert shared_word(items, core.RING + ring.HEAD).value == shared_word(items, core.RING + ring.TAIL).value


LONG = bytes(1500)  # two, and a third does not fit before the end of the lap


def near_the_end_of_the_lap(items):
    for _ in range(2):
        items.put(LONG)
        items.get()


@dataclass(frozen=True)
class Death:
    """An operation of the victim, where its code lies, and what the queue holds before."""

    act: Callable[[Queue], object]
    address: Callable[[], int]
    held: tuple[object, ...] = (1,)
    puts: tuple[object, ...] = ()
    gets: int = 0
    prepare: Callable[[Queue], object] = Queue.qsize


def entry_of(name):
    return lambda: address_of(getattr(core.entries, name))


def native_put():
    return core.put.address


def native_get():
    return core.get.address


DEATHS = {
    "put": Death(lambda items: items.put(b"2"), native_put, puts=(b"2",)),
    "put an object": Death(lambda items: items.put(2), entry_of("put"), puts=(2,)),
    "put many": Death(lambda items: items.put_many([2, 3, 4]), entry_of("put"), puts=(2, 3, 4)),
    "put past a gap": Death(lambda items: items.put(LONG), native_put, puts=(LONG,), prepare=near_the_end_of_the_lap),
    "get": Death(lambda items: items.get(), native_get, held=(1, 2), gets=1),
    "get many": Death(lambda items: items.get_many(), entry_of("get"), held=(1, 2, 3), gets=3),
    "get past a gap": Death(lambda items: items.get(), native_get, held=(LONG, 2), gets=1, prepare=near_the_end_of_the_lap),
}


@contextmanager
def before_its_death(death):
    """A queue, and a victim that stands before the first instruction of an operation on it."""
    items = Queue(capacity=CAPACITY)
    death.prepare(items)
    for item in death.held:
        items.put(item)

    def suffer():
        items._open()
        be_traced()
        death.act(items)

    with Victim(suffer) as victim:
        yield items, victim, Stepper(victim, death.address())


def instants(death):
    """How many there are at which the shared memory has changed."""
    with before_its_death(death) as (items, _, stepper):
        return sum(1 for _ in stepper.instants(lambda: memory(items)))


def memory(items):
    return ctypes.string_at(items._memory.address, items._memory.size)


@pytest.mark.skipif(not AVAILABLE, reason="processes are stepped through on x86-64 only")
@pytest.mark.parametrize("name", DEATHS)
def test_death_at_every_instant_of_an_operation(name):
    death = DEATHS[name]
    reached = []
    for instant in range(instants(death)):
        with before_its_death(death) as (items, victim, stepper):
            next(islice(stepper.instants(lambda items=items: memory(items)), instant, None))
            victim.kill()
            start = time.monotonic()
            items.put("after", timeout=PATIENCE)
            left = []
            while "after" not in left:
                left += items.get_many(timeout=PATIENCE)
            assert time.monotonic() - start < 2 * LIMIT_S, "each side may have to be taken over"
            assert (items.qsize(), items.empty()) == (0, True)
        whole = [*death.held, *death.puts]
        done = len(left) - 1 - len(death.held) if death.puts else len(whole) + 1 - len(left)
        assert left == [*whole[: len(left) - 1], "after"] if death.puts else left == [*whole[done:], "after"]
        reached.append(done)
    assert reached[0] == 0
    assert reached[-1] == len(death.puts) + death.gets
    assert reached == sorted(reached)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_survivors_lose_nothing(method):
    """Producers and consumers, half of which are killed at random moments under load."""
    context, chance = multiprocessing.get_context(method), random.Random(7)
    count, each = 2000 if method == "spawn" else 10_000, 4
    items = Queue(capacity=1 << 14)
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_inheritable(write, True)
    consumers = [Process(context, consume, items, Descriptor(write)) for _ in range(each)]
    producers = [
        Process(context, produce, items, producer, count if producer >= each // 2 else 1 << 40) for producer in range(each)
    ]
    got, deadline = bytearray(), time.monotonic() + 2 * PATIENCE

    def drain():
        try:
            got.extend(os.read(read, 1 << 20))
        except BlockingIOError:
            time.sleep(0.001)

    assert eventually(lambda: drain() or len(got) > 100 * GOT.size)
    for victim in producers[: each // 2] + consumers[: each // 2]:
        until = time.monotonic() + chance.uniform(0.0, 0.05)
        while time.monotonic() < until:
            drain()
        victim.kill()
    while any(process.is_alive() for process in producers):
        assert time.monotonic() < deadline, "a producer hangs"
        drain()
    for _ in consumers[each // 2 :]:
        items.put(None, timeout=PATIENCE)
    while any(process.is_alive() for process in consumers):
        assert time.monotonic() < deadline, "a consumer hangs"
        drain()
    drain()
    assert [process.exitcode for process in producers] == [-9] * (each // 2) + [0] * (each // 2)
    os.close(read)
    os.close(write)
    found = Counter(GOT.iter_unpack(got))
    assert not [item for item, times in found.items() if times > 1], "an item came twice"
    survivors = {(producer, number) for producer in range(each // 2, each) for number in range(count)}
    assert len(survivors - set(found)) <= each // 2, "a killed consumer takes one item with it, no more"
    for producer in range(each // 2):  # what a killed one had put is there
        numbers = [number for one, number in found if one == producer]
        assert max(numbers, default=-1) + 1 - len(numbers) <= each // 2


def Process(context, target, *arguments):
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


class Descriptor:
    """A file descriptor as an argument of a process."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return _detached, (multiprocessing.reduction.DupFd(self.number),)

    def __index__(self):
        return self.number


def _detached(received):
    return Descriptor(received.detach())


def test_each_producer_keeps_its_order():
    items = Queue(capacity=CAPACITY)
    producers = [Child(produce, items, producer, 1000) for producer in range(3)]
    last = [-1] * 3
    for _ in range(3000):
        producer, number, _ = items.get(timeout=PATIENCE)
        assert number == last[producer] + 1
        last[producer] = number
    assert [child.outcome() for child in producers] == ["put"] * 3


def test_ctrl_c_ends_a_wait_and_leaves_the_queue_in_order(items):
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        items.get()
    assert time.monotonic() - start < PATIENCE
    items.put(1)
    assert items.get() == 1


# --- against the model


@settings(max_examples=60, deadline=None)
@given(
    maxsize=st.integers(0, 5),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.one_of(st.integers(), st.binary(max_size=400), st.text())),
            st.tuples(st.just("put_many"), st.lists(st.integers(), min_size=1, max_size=3)),
            st.tuples(st.just("get"), st.none()),
            st.tuples(st.just("get_many"), st.integers(1, 3)),
        ),
        max_size=60,
    ),
)
def test_it_behaves_like_the_queue_of_the_standard_library(maxsize, steps):
    ours, model = Queue(maxsize, capacity=1 << 16), queue.Queue(maxsize)

    def outcome(action, argument):
        try:
            return action(argument)
        except (queue.Full, queue.Empty) as error:
            return type(error)
        except MessageTooLarge:
            return queue.Full

    def many(count):
        first = model.get_nowait()
        return [first, *(model.get_nowait() for _ in range(min(count - 1, model.qsize())))]

    def put_all(numbers):
        if maxsize and model.qsize() + len(numbers) > maxsize:
            raise queue.Full
        for number in numbers:
            model.put_nowait(number)

    actions = {
        "put": (model.put_nowait, ours.put_nowait),
        "put_many": (put_all, ours.put_many_nowait),
        "get": (lambda _: model.get_nowait(), lambda _: ours.get_nowait()),
        "get_many": (many, ours.get_many_nowait),
    }
    for name, argument in steps:
        expected, found = (outcome(action, argument) for action in actions[name])
        assert found == expected
        assert (ours.qsize(), ours.empty()) == (model.qsize(), model.empty())
