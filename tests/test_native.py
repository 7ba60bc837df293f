"""Methods in machine code: they do what the Python methods behind them do, and refuse what those refuse."""

import inspect

import numpy as np
import pytest

import zcipc
from zcipc import Connection, Pipe

pytestmark = pytest.mark.usefixtures("tidy")


@pytest.fixture
def ends():
    left, right = Pipe(capacity=1 << 14)
    with left, right:
        yield left, right


def test_the_fast_methods_stand_in_front_of_documented_python_methods(ends):
    for name in ("send_bytes", "recv_bytes"):
        method = getattr(Connection, name)
        behind = getattr(Connection, f"_{name}")
        assert inspect.ismethoddescriptor(method)
        assert inspect.isfunction(behind)
        assert inspect.getdoc(method) == inspect.getdoc(behind)
        assert list(inspect.signature(method).parameters) == list(inspect.signature(behind).parameters)


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
