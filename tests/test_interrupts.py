"""Stopped, interrupted, hurried and closed under its feet: every call ends in time, and says why."""

import os
import signal
import statistics
import sys
import threading
import time
from contextlib import suppress
from random import Random

import pytest
from support import PATIENCE, Child

from zcipc import Closed, Listener, Pipe, TimedOut, Waiting, ZcipcError, ipc_destroy, ipc_init, ipc_receive, ipc_send
from zcipc.lab.torture import stops

pytestmark = pytest.mark.usefixtures("tidy")

AT_ONCE = 5.0  # seconds: generous for what should take none
NOTICED = 0.25  # seconds


@pytest.fixture(params=list(Waiting), ids=lambda waiting: waiting.name.lower())
def ends(request):
    """Two ends of which the left one can neither send nor receive anything."""
    left, right = Pipe(capacity=4096, waiting=request.param)
    with left, right:
        right.poll()
        while left.statistics().bytes_queued_out < 3000:
            left.send_bytes(bytes(1000))
        yield left, right


BLOCKED = {
    "recv": lambda left: left.recv(),
    "recv_bytes": lambda left: left.recv_bytes(),
    "borrow": lambda left: left.borrow().__enter__(),
    "poll": lambda left: left.poll(None),
    "send": lambda left: left.send(bytes(2000)),
    "send_bytes": lambda left: left.send_bytes(bytes(2000)),
    "loan": lambda left: left.loan(2000).__enter__(),
}


def interrupted(call):
    """Press Ctrl-C while `call` waits; the seconds until it has ended."""
    pressed = []

    def press():
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.12, press)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        call()
    took = time.monotonic() - pressed[0]
    timer.join()
    return took


@pytest.mark.parametrize("call", BLOCKED)
def test_ctrl_c_ends_a_call_in_time_and_the_connection_goes_on(ends, call):
    left, right = ends
    assert interrupted(lambda: BLOCKED[call](left)) < NOTICED
    while right.poll():
        assert right.recv_bytes() == bytes(1000)
    for one, other in (ends, ends[::-1]):
        with one.loan(3000, timeout=AT_ONCE) as buffer:
            buffer[:] = b"x" * 3000
        with other.borrow(timeout=AT_ONCE) as buffer:
            assert bytes(buffer) == b"x" * 3000
    assert left.statistics().views_alive == right.statistics().views_alive == 0


def test_ctrl_c_ends_waiting_for_a_client():
    with Listener(f"interrupts/{os.getpid()}") as listener:
        assert interrupted(listener.accept) < NOTICED
        with pytest.raises(TimedOut):
            listener.accept(timeout=0)


@pytest.mark.parametrize("call", ["send", "receive"])
def test_ctrl_c_ends_the_calls_of_the_paper(call):
    with Child(time.sleep, PATIENCE) as other:
        ipc = ipc_init(os.getpid(), other.pid, slots=1)
        waiting = {"receive": lambda: ipc_receive(ipc), "send": lambda: [ipc_send(ipc, b"one more") for _ in range(2)]}
        assert interrupted(waiting[call]) < NOTICED
        with pytest.raises(TimedOut):
            ipc_receive(ipc, timeout=0)
        ipc_destroy(ipc)
        other.kill()
        other.process.join()


def test_ctrl_c_ends_a_call_in_a_notebook():
    manager = pytest.importorskip("jupyter_client.manager", reason="Jupyter is not installed")
    kernel, client = manager.start_new_kernel(kernel_name="python3")
    try:
        ask(client, "import zcipc; left, right = zcipc.Pipe(); left.poll(); right.poll()")
        for call in ("left.recv()", "left.borrow().__enter__()", "[left.send_bytes(bytes(1 << 19)) for _ in range(3)]"):
            waiting = client.execute(call, stop_on_error=False)  # else the next one may be dropped unread
            time.sleep(0.5)
            pressed = time.monotonic()
            kernel.interrupt_kernel()
            reply = client.get_shell_msg(timeout=PATIENCE)
            assert reply["parent_header"]["msg_id"] == waiting
            assert (reply["content"]["status"], reply["content"].get("ename")) == ("error", "KeyboardInterrupt")
            assert time.monotonic() - pressed < NOTICED + 0.25, "the kernel itself takes some time to answer"
        ask(client, "while right.poll(): right.recv_bytes()")
        ask(client, "left.send('after'); assert right.recv(timeout=5) == 'after'")
        ask(client, "right.send('and back'); assert left.recv(timeout=5) == 'and back'")
        ask(client, "left.close(); right.close()")
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


def ask(client, code):
    content = client.execute(code, reply=True, timeout=PATIENCE)["content"]
    assert content["status"] == "ok", content


# --- time-outs


@pytest.mark.parametrize("call", BLOCKED.keys() - {"poll"})
@pytest.mark.parametrize("timeout", [0, 0.02, 0.13])
def test_a_time_out_is_as_long_as_it_says(ends, call, timeout):
    """Within 5 ms or 5 %, beside a sleep as long, which shows how busy the machine is."""
    left, _ = ends
    with_timeout = {
        "recv": lambda: left.recv(timeout=timeout),
        "recv_bytes": lambda: left.recv_bytes(timeout=timeout),
        "borrow": lambda: left.borrow(timeout=timeout).__enter__(),
        "send": lambda: left.send(bytes(2000), timeout=timeout),
        "send_bytes": lambda: left.send_bytes(bytes(2000), timeout=timeout),
        "loan": lambda: left.loan(2000, timeout=timeout).__enter__(),
    }
    late = []
    for _ in range(5):
        start = time.monotonic()
        with pytest.raises(TimedOut):
            with_timeout[call]()
        middle = time.monotonic()
        time.sleep(timeout)
        assert middle - start >= timeout
        late.append((middle - start) - max(time.monotonic() - middle, timeout))
    assert statistics.median(late) < max(0.005, 0.05 * timeout)


@pytest.mark.parametrize("timeout", [None, float("inf")])
def test_without_a_time_out_a_call_waits_as_long_as_it_takes(timeout):
    left, right = Pipe(capacity=4096)
    with left, right:
        timer = threading.Timer(0.3, lambda: right.send("at last"))
        timer.start()
        assert left.poll(timeout)
        assert left.recv(timeout=timeout) == "at last"
        timer.join()


# --- stopped, and closed by another thread


def test_a_process_that_is_stopped_and_continued_loses_nothing():
    tally = stops.stops(Random(20243))
    assert tally.failures == []
    assert tally.stops >= 10


def close_under_the_feet(seconds):
    """Threads use an end in every way while another one closes it, at any instant."""
    sys.setswitchinterval(1e-6)
    deadline = time.monotonic() + seconds
    surprises = set()

    def use(end):
        try:
            while True:
                end.poll(0.00001)
                end.statistics()
                with suppress(TimedOut), end.borrow(timeout=0):
                    pass
        except Closed:
            pass
        except (ZcipcError, ValueError) as error:
            surprises.add(repr(error))

    while time.monotonic() < deadline:
        ends = Pipe(capacity=4096)
        for end in ends:
            end.poll()
        threads = [threading.Thread(target=use, args=(ends[0],)) for _ in range(2)]
        threads += [threading.Thread(target=ends[0].close) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        ends[1].close()
    return surprises


def test_an_end_may_be_closed_while_other_threads_use_it():
    with Child(close_under_the_feet, 4.0) as child:
        assert child.outcome() == set()
