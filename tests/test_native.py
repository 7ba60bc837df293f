"""Methods in machine code: they do what the Python methods behind them do, and refuse what those refuse."""

import ctypes
import inspect
import os
import subprocess
import sys

import numpy as np
import pytest

import zcipc
from zcipc import Connection, Pipe
from zcipc.ends import methods
from zcipc.ends.views import Borrow, Loan
from zcipc.native.membarrier import membarrier

pytestmark = pytest.mark.usefixtures("tidy")

GET_REGISTRATIONS = 1 << 9


@pytest.fixture
def ends():
    left, right = Pipe(capacity=1 << 14)
    with left, right:
        yield left, right


def test_the_fast_methods_stand_in_front_of_documented_python_methods(ends):
    accelerated = [(Connection, name) for name in ("send_bytes", "recv_bytes", "loan", "borrow")]
    accelerated += [(view, name) for view in (Loan, Borrow) for name in ("__enter__", "__exit__")]
    for owner, name in accelerated:
        method = getattr(owner, name)
        behind = getattr(owner, f"_{name.strip('_')}")
        assert inspect.ismethoddescriptor(method)
        assert inspect.isfunction(behind)
        assert inspect.getdoc(method) == inspect.getdoc(behind)
        assert list(inspect.signature(method).parameters) == list(inspect.signature(behind).parameters)


@pytest.mark.parametrize("change", ["enable", "disable"])
def test_importing_leaves_the_collector_as_it_was(change):
    code = f"import gc; gc.{change}(); import zcipc; print(gc.isenabled())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == str(change == "enable")


@pytest.mark.parametrize(("before", "registered"), [("", "True"), ("import numpy; ", "False")], ids=["alone", "with_threads"])
def test_importing_registers_for_the_barrier_if_that_takes_no_time(before, registered):
    if membarrier(GET_REGISTRATIONS) < 0:
        pytest.skip("the kernel is older than Linux 6.3, and does not tell who is registered")
    code = f"{before}import zcipc; from zcipc.native import membarrier as m; print(m.membarrier({GET_REGISTRATIONS}) > 0)"
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == registered


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((b"abcdef",), {}),
        ((), {"data": b"abcdef"}),
        ((b"--abcdef--", 2, 6), {}),
        ((b"--abcdef--",), {"offset": 2, "size": 6, "timeout": 1}),
        ((bytearray(b"abcdef"),), {}),
        ((np.frombuffer(b"abcdef", np.uint8),), {}),
        ((memoryview(b"abcdef"),), {}),
    ],
)
def test_every_way_to_call_send_bytes_sends_the_same(ends, arguments, named):
    left, right = ends
    for _ in range(3):  # the first call opens the end, the others are the fast path
        assert left.send_bytes(*arguments, **named) is None
        assert right.recv_bytes(100, timeout=1) == b"abcdef"


@pytest.mark.parametrize(
    ("data", "error"),
    [(np.arange(10)[::2], BufferError), (17, TypeError), ("text", TypeError), (None, TypeError)],
    ids=["strided", "int", "str", "None"],
)
def test_what_has_no_bytes_in_a_row_is_refused_and_the_connection_goes_on(ends, data, error):
    left, right = ends
    with pytest.raises(error):
        left.send_bytes(data)
    left.send_bytes(b"next")
    assert right.recv_bytes() == b"next"


def test_wrong_arguments_are_type_errors(ends):
    left, _ = ends
    for call in (
        lambda: left.send_bytes(),
        lambda: left.send_bytes(b"", 0, 0, 0),
        lambda: left.recv_bytes(nonsense=1),
        lambda: Connection.send_bytes(object(), b""),
        lambda: Connection.recv_bytes(),
    ):
        with pytest.raises(TypeError):
            call()


def test_a_subclass_may_override_a_fast_method_and_call_it():
    class Upper(Connection):
        def send_bytes(self, data, *arguments, **named):
            super().send_bytes(data.upper(), *arguments, **named)

    left, right = Pipe()
    left.__class__ = Upper
    with left, right:
        for _ in range(2):
            left.send_bytes(b"text")
            assert right.recv_bytes() == b"TEXT"


def test_a_failed_call_leaves_no_reference_behind(ends):
    left, _ = ends
    data = bytearray(b"x" * 8)
    for _ in range(3):
        with pytest.raises(zcipc.TimedOut):
            left.send_bytes(bytearray(1 << 22), timeout=0.01)
        left.send_bytes(data)
    data.clear()  # raises if anybody still views it


def test_the_slots_lie_where_the_machine_code_looks_for_them(ends):
    left, right = ends

    def word(obj, slot):
        return ctypes.c_int64.from_address(id(obj) + slot).value

    with left.loan(8):
        pass
    with right.borrow():
        assert word(right, methods.CHANNEL_READING) == id(right._reading) != id(None)
    assert word(left, methods.CHANNEL_SPARE_LOAN) == id(left._spare_loan) != id(None)
    assert word(right, methods.CHANNEL_SPARE_BORROW) == id(right._spare_borrow) != id(None)
    loan = left.loan(8, timeout=0.5)
    with loan as buffer:
        assert word(loan, methods.BLOCK_BUFFER) == id(buffer)
        assert word(loan, methods.BLOCK_CHANNEL) == id(left)
        assert word(loan, methods.BLOCK_TIMEOUT) == id(loan._timeout)
        assert word(loan, methods.BLOCK_WINDOW) == id(loan._window)


@pytest.mark.parametrize("timeout", [{}, {"timeout": 1}], ids=["native", "python"])
def test_who_keeps_a_loan_or_a_borrow_after_its_block_has_it_alone(ends, timeout):
    left, right = ends
    kept = left.loan(8), right.borrow()
    with kept[0]:
        pass
    with kept[1]:
        pass
    assert left.loan(8, **timeout) is not kept[0]
    assert right.borrow(**timeout) is not kept[1]
    for view in kept:
        with pytest.raises(AttributeError):
            view.__enter__()


def test_blocks_leave_no_reference_behind(ends):
    left, right = ends

    def pass_messages():
        for _ in range(100):
            with left.loan(8) as buffer:
                buffer[0] = 1
            with right.borrow() as buffer:
                assert buffer[0] == 1
            with pytest.raises(ZeroDivisionError), left.loan(8):
                raise ZeroDivisionError
        return [sys.getrefcount(obj) for obj in (left, right, None, left._spare_loan._window, right._spare_borrow._window)]

    first, second = pass_messages(), pass_messages()
    assert all(abs(now - before) < 50 for now, before in zip(second, first, strict=True))
