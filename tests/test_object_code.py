"""The object files of what C calls: made once a machine, loaded by all others, made again where it is not what it should be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zcipc.native import object_code

CODE = b"machine code" * 100

TALK = """
import zcipc
from zcipc.native import object_code
compiled, times = object_code._compiled, []
def spy(functions):
    times.append(1)
    made = compiled(functions)
    assert not object_code._foreign_symbols(made[0]), "only numba could load it"
    return made
object_code._compiled = spy
left, right = zcipc.Pipe()
left.send_bytes(b"message")
assert right.recv_bytes() == b"message"
print(len(times))
"""

CALL = (
    TALK
    + """
from zcipc.calls.wire import Wire
Wire(left).send((1, 2, b"content"))
assert Wire(right).receive() == (1, 2, b"content")
print(len(times))
"""
)


def times_compiled(cache, program=TALK):
    """How often a fresh process compiles before it has passed a message."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(Path(object_code.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.slow
def test_it_is_compiled_once_and_again_when_it_is_spoilt(tmp_path):
    assert (parts := times_compiled(tmp_path)) > 0
    assert times_compiled(tmp_path) == 0
    files = list(tmp_path.rglob("zcipc.*.o"))
    assert len(files) == parts
    content = bytearray(files[0].read_bytes())
    content[len(content) // 2] ^= 1
    files[0].write_bytes(content)
    assert times_compiled(tmp_path) == 1
    assert times_compiled(tmp_path) == 0


@pytest.mark.slow
def test_each_part_of_the_library_is_compiled_when_it_is_first_used(tmp_path):
    parts = times_compiled(tmp_path)
    assert times_compiled(tmp_path, CALL) == 1, "the functions of calls, which a pipe needs none of"
    assert times_compiled(tmp_path, CALL) == 0
    assert len(list(tmp_path.rglob("zcipc.*.o"))) == parts + 1


def test_what_was_kept_is_found_again(tmp_path):
    file = tmp_path / "below" / "code.o"
    assert object_code._kept(file) is None
    object_code._keep(file, CODE)
    assert object_code._kept(file) == CODE
    assert [path.name for path in file.parent.iterdir()] == ["code.o"], "nothing temporary is left"


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"", lambda content: b"x" + content[1:]])
def test_what_is_not_whole_is_as_good_as_nothing(tmp_path, damage):
    file = tmp_path / "code.o"
    object_code._keep(file, CODE)
    file.write_bytes(damage(file.read_bytes()))
    assert object_code._kept(file) is None


def test_what_another_state_of_the_package_made_is_as_good_as_nothing(tmp_path, monkeypatch):
    file = tmp_path / "code.o"
    object_code._keep(file, CODE)
    monkeypatch.setattr(object_code, "STAMP", (1, 2))
    assert object_code._kept(file) is None


def test_where_nothing_can_be_kept_nothing_fails(tmp_path):
    (tmp_path / "in the way").write_text("a file, and no directory")
    file = tmp_path / "in the way" / "code.o"
    object_code._keep(file, CODE)
    assert object_code._kept(file) is None
