"""What an object says of itself, as a line, as a table and as numbers: in every state, and never with an error."""

import asyncio
import os
import threading
from dataclasses import fields
from html.parser import HTMLParser

import pytest
from support import PATIENCE, Child, eventually

import zcipc
from zcipc import Waiting, aio, rpc

pytestmark = pytest.mark.usefixtures("tidy")

CAPACITY = 4096


@pytest.fixture
def ends():
    left, right = zcipc.Pipe(capacity=CAPACITY)
    yield left, right
    left.close()
    right.close()


class Table(HTMLParser):
    """A table's caption, and the cell beside each name. Whatever does not belong in one is an error."""

    VOID = frozenset({"br"})
    ALLOWED = frozenset({"table", "caption", "tr", "th", "td", "meter", "br"})

    def __init__(self, obj):
        super().__init__()
        self.open, self.texts, self.caption, self.cells, self.meters = [], [], "", {}, {}
        self.feed(obj._repr_html_())
        self.close()
        assert not self.open, "every tag is closed"

    def handle_starttag(self, tag, attributes):
        assert tag in self.ALLOWED
        assert all(name in ("style", "min", "max", "value") for name, _ in attributes)
        assert "color" not in str(attributes), "the page has its own colours, dark or light"
        if tag == "meter":
            self.meters[self.name] = tuple(int(value) for _, value in attributes)
        if tag not in self.VOID:
            self.open.append(tag)
            self.texts = [] if len(self.open) <= 3 else self.texts  # a nested table is part of its cell

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        text = "".join(self.texts)
        if tag == "caption":
            self.caption = text
        elif tag == "th" and len(self.open) == 2:
            self.name = text
        elif tag == "td" and len(self.open) == 2:
            self.cells[self.name] = text

    def handle_data(self, data):
        self.texts.append(data)


def described(obj):
    """Its line, after a look at everything else that it says of itself."""
    line, table = repr(obj), Table(obj)
    assert line == f"<{table.caption}, {table.cells['state']}>"
    names = [field.name.replace("_", " ") for field in fields(obj.statistics())]
    assert list(table.cells) == ["state", *names]
    return line


def use_and_die(end):
    end.send_bytes(b"here")
    end.recv_bytes(timeout=PATIENCE)
    os.kill(os.getpid(), 9)


def use_and_leave(end):
    end.send_bytes(b"here")
    end.close()


def look(*objects):
    return [described(obj) for obj in objects]


# --- connections


def test_a_connection_from_its_making_to_its_end(ends):
    left, right = ends
    is_left = f"<Connection {left._segment.name}, end 0, 4,096 bytes each way, "
    assert described(left) == is_left + "not used yet, no peer yet>"
    left.send(1)
    assert described(left) == is_left + "open, no peer yet>"
    assert described(right).endswith(f"end 1, 4,096 bytes each way, not used yet, peer {os.getpid()} alive>")
    right.recv()
    right.close()
    assert described(left) == is_left + f"open, peer {os.getpid()} alive, closed>"
    left.close()
    assert described(left) == is_left + "closed>"


def test_a_connection_of_one_direction():
    reader, writer = zcipc.Pipe(duplex=False, capacity=CAPACITY)
    with reader, writer:
        assert "each way, receives only, not" in described(reader)
        assert "each way, sends only, not" in described(writer)


def test_to_look_takes_no_seat(ends):
    left, right = ends
    described(left)
    with Child(use_and_leave, left) as child:
        assert right.recv_bytes(timeout=PATIENCE) == b"here"
        assert child.outcome() is None


def test_a_connection_whose_peer_was_killed(ends):
    left, right = ends
    with Child(use_and_die, right) as child:
        assert left.recv_bytes(timeout=PATIENCE) == b"here"
        assert left.statistics().peer_alive
        left.send_bytes(b"die")
        assert eventually(lambda: left.statistics().peer_alive is False)
        assert described(left).endswith(f"open, peer {child.pid} dead>")
    assert left.statistics().peer_pid == child.pid


def test_a_connection_that_its_parent_uses(ends):
    left, _ = ends
    left.send(1)
    with Child(look, left) as child:
        assert child.outcome()[0].endswith(f"the parent's, peer {os.getpid()} alive>") is False
    with Child(look, left) as child:
        assert child.outcome()[0].endswith("the parent's, no peer yet>")


def test_a_connection_with_anything_in_its_shared_memory(ends):
    left, _ = ends
    left.send(1)
    for byte in (0xFF, 0x80, 0x7F, 0x01):
        left._segment.buffer[128:CAPACITY] = bytes([byte]) * (CAPACITY - 128)
        described(left)
        assert 0 <= left.statistics().bytes_queued_in <= CAPACITY


def test_the_statistics_of_a_connection(ends):
    left, right = ends
    left.send_bytes(bytes(10))
    left.send_bytes(bytes(16))
    assert right.recv_bytes() == bytes(10)
    right.send_bytes(b"back")
    mine, theirs = left.statistics(), right.statistics()
    assert (mine.messages_sent, mine.bytes_sent) == (2, 8 + 16 + 8 + 16)
    assert (theirs.messages_received, theirs.bytes_received) == (1, 24)
    assert Table(left).meters == {"bytes queued out": (0, CAPACITY, 24), "bytes queued in": (0, CAPACITY, 16)}
    left.close()
    closed = left.statistics()
    assert (closed.messages_sent, closed.bytes_sent, closed.bytes_queued_out, closed.peer_pid) == (2, 48, 0, None)


def test_who_sleeps_at_the_other_end_is_told():
    left, right = zcipc.Pipe(waiting=Waiting.BLOCK)
    with left, Child(right.recv_bytes):
        assert eventually(lambda: left.statistics().peer_sleeps_for == ("message",))
        left.send_bytes(b"")


def test_a_view_counts_until_it_is_gone(ends):
    left, right = ends
    left.send_bytes(bytes(8))
    with right.borrow() as buffer:
        assert "Borrow, of Connection" in repr(right.borrow())
        kept = memoryview(buffer.obj)
    assert right.statistics().views_alive == 1
    del kept
    assert right.statistics().views_alive == 0


def test_a_loan_in_every_state(ends):
    left, _ = ends
    loan = left.loan(8)
    assert repr(loan).startswith("<Loan, of Connection zcipc-")
    with loan:
        assert repr(loan).startswith("<Loan, of Connection zcipc-")
    assert repr(loan) == "<Loan, ended>"


def test_threads_look_while_another_one_closes():
    failures = []

    def watch(end):
        try:
            while not end.closed:
                repr(end), end._repr_html_()
            described(end)
        except Exception as error:
            failures.append(error)

    for _ in range(50):
        left, right = zcipc.Pipe(capacity=CAPACITY)
        left.send(1)
        thread = threading.Thread(target=watch, args=(left,))
        thread.start()
        left.close()
        right.close()
        thread.join(PATIENCE)
    assert failures == []


# --- queues and broadcasts


def test_a_queue_and_what_it_counts():
    items = zcipc.Queue(5, capacity=CAPACITY)
    assert described(items) == "<Queue of 4,096 bytes, at most 5 items, open, qsize 0>"
    items.put_many([b"12345678"] * 3)
    items.get()
    assert described(items) == "<Queue of 4,096 bytes, at most 5 items, open, qsize 2>"
    now = items.statistics()
    assert (now.items_put, now.items_got, now.items_unfinished) == (3, 1, None)
    assert (now.bytes_put, now.bytes_got, now.bytes_queued) == (48, 16, 32)
    assert (now.capacity, now.maxsize, now.sleep_for, now.waiting) == (CAPACITY, 5, (), Waiting.HYBRID)
    assert Table(items).meters == {"bytes queued": (0, CAPACITY, 32)}
    with Child(items.put, 4) as child:
        assert child.outcome() is None
    assert items.statistics().items_put == 4, "all who use it count together"
    items.close()
    assert described(items) == "<Queue of 4,096 bytes, at most 5 items, closed>"
    assert described(zcipc.SimpleQueue(capacity=CAPACITY)) == "<Queue of 4,096 bytes, open, qsize 0>"


def test_a_queue_that_counts_what_is_finished():
    items = zcipc.JoinableQueue()
    items.put(1)
    items.get()
    assert items.statistics().items_unfinished == 1
    items.task_done()
    assert described(items) == "<JoinableQueue of 1,048,576 bytes, open, qsize 0>"
    assert items.statistics().items_unfinished == 0


def test_who_sleeps_at_a_queue_is_told():
    items = zcipc.Queue(waiting=Waiting.BLOCK)
    with Child(items.get):
        assert eventually(lambda: items.statistics().sleep_for == ("message",))
        items.put(1)


def test_a_broadcast_and_its_readers():
    sender = zcipc.Broadcast(2, capacity=CAPACITY, slow="drop")
    fast, slow = sender.readers
    me = os.getpid()
    assert described(sender) == "<Broadcast of 4,096 bytes to 2 readers, slow='drop', not used yet>"
    assert described(fast) == "<Reader 0 of a broadcast of 4,096 bytes, not used yet, no sender yet>"
    sender.send(b"12345678")
    sender.send(b"12345678")
    fast.recv()
    assert described(sender) == "<Broadcast of 4,096 bytes to 2 readers, slow='drop', open>"
    assert described(fast) == f"<Reader 0 of a broadcast of 4,096 bytes, open, sender {me} alive>"
    sent, read = sender.statistics(), fast.statistics()
    assert (sent.messages_sent, sent.bytes_sent, sent.bytes_queued, sent.bytes_behind) == (2, 48, 48, (24, 48))
    assert [reader.process and reader.process.pid for reader in sent.readers] == [me, None]
    assert (read.messages_received, read.messages_missed, read.bytes_behind, read.sender_pid) == (1, 0, 24, me)
    slow.close()
    assert described(slow) == f"<Reader 1 of a broadcast of 4,096 bytes, closed, sender {me} alive>"
    assert sender.statistics().bytes_queued == 24, "who left is waited for no more"
    for number in range(CAPACITY // 24):
        sender.send(bytes([number]) * 8)
    fast.recv()
    read = fast.statistics()
    assert read.messages_received == 2
    assert read.messages_missed == fast.missed > 0
    sender.close()
    assert described(fast).endswith(f"open, sender {me} alive, closed>")
    assert described(sender).endswith("closed>")


def test_a_reader_elsewhere_and_one_that_was_disconnected():
    sender = zcipc.Broadcast(1, capacity=CAPACITY, slow="disconnect")
    (reader,) = sender.readers
    with Child(reader.recv) as child:
        assert eventually(lambda: reader.statistics().sender_pid is None and sender.statistics().readers[0].process)
        assert described(reader) == f"<Reader 0 of a broadcast of 4,096 bytes, process {child.pid}'s, no sender yet>"
        sender.send(1)
    for _ in range(10):
        sender.send(bytes(1000))
    assert described(reader).startswith("<Reader 0 of a broadcast of 4,096 bytes, disconnected, sender")


# --- names, calls, event loops


def test_a_listener_and_a_name_that_is_html():
    listener = zcipc.Listener(f"<script>&'{os.getpid()}")
    with listener, Child(zcipc.Client, listener.address) as child:
        assert described(listener) == f"<Listener {listener.address!r}, open>"
        with listener.accept(timeout=PATIENCE):
            assert listener.statistics() == zcipc.ListenerStatistics(1, child.pid, 1 << 20, Waiting.HYBRID, True)
    assert described(listener) == f"<Listener {listener.address!r}, closed>"
    assert "&lt;script&gt;&amp;" in listener._repr_html_()


class Adder:
    def add(self, a: int, b: int) -> int:
        return a + b


def test_a_proxy_and_its_calls():
    ours, theirs = zcipc.Pipe()
    thread = threading.Thread(target=rpc.serve, args=(Adder(), theirs), daemon=True)
    thread.start()
    adder = rpc.connect(Adder, ours)
    assert repr(adder) == f"<proxy of Adder over {ours!r}>"
    assert adder.add(1, 2) == 3
    answer = rpc.start(adder.add, 3, 4)
    assert repr(answer) == "<Call 2 of 'add', in flight>"
    now = rpc.statistics(adder)
    assert (now.in_flight, now.connection.messages_sent) == (1, 3)
    assert "in flight" in Table(adder).cells
    assert answer.result(PATIENCE) == 7
    assert repr(answer) == "<Call 2 of 'add', done>"
    rpc.disconnect(adder)
    assert repr(adder).endswith("closed>>")
    assert rpc.statistics(adder).connection.messages_received == 3
    thread.join(PATIENCE)


def test_a_connection_of_an_event_loop(ends):
    async def main():
        async with aio.Connection(ends[0]) as connection:
            await connection.send(1)
            assert described(connection) == f"<aio {repr(ends[0])[1:]}"
            assert connection.statistics() == ends[0].statistics()
        assert described(connection).endswith("4,096 bytes each way, closed>")

    asyncio.run(main())


def test_a_proxy_of_an_event_loop():
    async def main():
        ours, theirs = zcipc.Pipe()
        serving = asyncio.create_task(aio.serve(Adder(), aio.Connection(theirs)))
        adder = await aio.connect(Adder, aio.Connection(ours))
        assert await adder.add(1, 2) == 3
        assert rpc.statistics(adder).in_flight == 0
        assert repr(adder).startswith("<proxy of Adder over <Connection zcipc-")
        aio.disconnect(adder)
        await serving

    asyncio.run(main())


# --- the paper's calls


def wait_for_message(first, second):
    zcipc.ipc_receive(zcipc.ipc_init(first, second, slots=4, slot_bytes=64), timeout=PATIENCE)
    os.kill(os.getpid(), 9)


def test_two_processes_bound_by_the_papers_calls():
    ours, theirs = zcipc.Pipe()
    with Child(lambda: wait_for_message(*theirs.recv(timeout=PATIENCE))) as child:
        pair = os.getpid(), child.pid
        ours.send(pair)
        ipc = zcipc.ipc_init(*pair, slots=4, slot_bytes=64)
        me, other = (0, 1) if os.getpid() < child.pid else (1, 0)
        bound = f"<Ipc of processes {min(pair)} and {max(pair)}, 4 slots of 64 bytes each way, "
        zcipc.ipc_send(ipc, b"1")
        zcipc.ipc_send(ipc, b"2")
        assert eventually(lambda: ipc.statistics().messages_queued[me] == 1)
        assert ipc.statistics().messages_sent[me] == 2
        assert ipc.statistics().messages_sent[other] == 0
        assert eventually(lambda: described(ipc) == bound + f"open, {child.pid} dead>")
        zcipc.ipc_destroy(ipc)
        assert described(ipc) == bound + f"destroyed, {child.pid} dead>"
        assert ipc.statistics().messages_sent == (0, 0)
    ours.close()
