"""A segment is what it says it is, or is refused; and what the dead left can be cleaned away, and nothing else."""

import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import Child

import zcipc
from zcipc import CorruptSegment, ForeignSegment, NameNotFound, NameTaken, OutOfSharedMemory, VersionMismatch
from zcipc.memory import segment as module
from zcipc.memory.segment import DIRECTORY, HEADER_BYTES, PREFIX, Segment, clean, stale_segments

pytestmark = pytest.mark.usefixtures("tidy")

SIZE = 8192
VERSION_AT, SIZE_AT, START_TIME_AT, NAMESPACE_AT = 8, 24, 40, 48


@pytest.fixture
def segment():
    segment = Segment.create("test", SIZE)
    yield segment
    segment.close()


@pytest.fixture
def foreign():
    """A file in the way that this package has not made."""
    path = DIRECTORY / f"{PREFIX}foreign-{os.getpid()}"
    path.write_bytes(bytes(range(256)) * 16)
    yield path
    path.unlink(missing_ok=True)


def path_of(segment):
    return DIRECTORY / segment.name


def put_word(segment, offset, value):
    segment.buffer[offset : offset + 8] = value.to_bytes(8, "little", signed=True)


# --- workers


def create_and_die():
    """What a killed program leaves: `os._exit` runs no finalizer."""
    create_and_die.segment = Segment.create("test", SIZE)
    raise SystemExit(die_with(create_and_die.segment.name))


def die_with(name):
    Path(os.environ["ZCIPC_TEST_NAME"]).write_text(name)
    os._exit(0)


def leave_normally():
    return Segment.create("test", SIZE).name


def forget(segment):
    segment.close()
    return "closed"


@pytest.fixture
def left_by_the_dead(tmp_path, monkeypatch):
    monkeypatch.setenv("ZCIPC_TEST_NAME", str(tmp_path / "name"))
    with Child(create_and_die):
        pass
    path = DIRECTORY / (tmp_path / "name").read_text()
    yield path
    path.unlink(missing_ok=True)


# --- create and attach


def test_a_segment_is_created_zeroed_private_and_whole(segment):
    status = path_of(segment).stat()
    assert segment.name.startswith(PREFIX)
    assert len(segment.name) == len(PREFIX) + 32, "128 random bits"
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_size == segment.size == len(segment.buffer) == SIZE
    assert status.st_blocks * 512 >= SIZE, "all of it is reserved"
    assert not any(segment.buffer[HEADER_BYTES:])


def test_who_attaches_sees_the_same_bytes(segment):
    other = Segment.attach("test", segment.name)
    segment.buffer[5000] = 42
    assert other.buffer[5000] == 42
    assert other.address != segment.address
    assert other.creator() == segment.creator()
    assert other.creator().pid == os.getpid()
    other.close()
    assert path_of(segment).exists(), "who attached does not unlink"


def test_a_name_is_taken_once(segment):
    with pytest.raises(NameTaken, match=segment.name):
        Segment.create("test", SIZE, segment.name.removeprefix(PREFIX))


def test_a_name_that_nobody_has_is_not_found():
    with pytest.raises(NameNotFound):
        Segment.attach("test", PREFIX + "nobody")


def test_the_name_goes_with_the_creator(segment):
    segment.close()
    assert not path_of(segment).exists()
    assert segment.closed
    segment.close()


def test_the_name_goes_with_a_creator_that_returns():
    with Child(leave_normally) as child:
        assert not (DIRECTORY / child.outcome()).exists()


def test_a_forked_child_does_not_take_the_name_away(segment):
    with Child(forget, segment) as child:
        assert child.outcome() == "closed"
    assert path_of(segment).exists()


def test_a_segment_with_two_users_takes_two_closes(segment):
    assert segment.retain() is segment
    segment.close()
    assert not segment.closed
    assert path_of(segment).exists()
    segment.close()
    assert segment.closed


def test_unlinking_leaves_the_memory(segment):
    segment.unlink()
    segment.unlink()
    assert not path_of(segment).exists()
    segment.buffer[5000] = 1
    with pytest.raises(NameNotFound):
        Segment.attach("test", segment.name)


def test_a_view_outlives_its_segment():
    segment = Segment.create("test", SIZE)
    view = segment.buffer[5000:5008]
    view[:] = b"12345678"
    segment.close()
    assert bytes(view) == b"12345678"


def test_threads_that_close_at_once_close_each_mapping_once(monkeypatch):
    """A second `close` of the same descriptor would hit whatever file has its number by then."""
    close, closed = module.SharedMemory.close, []

    def close_slowly(memory):
        closed.append(memory.name)
        time.sleep(0.05)
        close(memory)

    monkeypatch.setattr(module.SharedMemory, "close", close_slowly)
    segments = [Segment.create("test", SIZE) for _ in range(4)]
    with ThreadPoolExecutor(len(segments)) as threads:
        list(threads.map(Segment.close, segments))
    assert [closed.count(segment.name) for segment in segments] == [1] * len(segments)


def test_a_renamed_segment_has_the_new_name_only(segment):
    old, new = path_of(segment), f"renamed-{os.getpid()}"
    segment.rename(new)
    assert segment.name == PREFIX + new
    assert not old.exists()
    Segment.attach("test", PREFIX + new).close()
    segment.close()
    assert not (DIRECTORY / (PREFIX + new)).exists()


def test_renaming_to_a_taken_name_changes_nothing(segment):
    other = Segment.create("test", SIZE)
    with pytest.raises(NameTaken):
        segment.rename(other.name.removeprefix(PREFIX))
    assert path_of(segment).exists()
    assert path_of(other).exists()
    other.close()


def test_the_last_name_stays_until_the_creator_exits_once_told_to_others(segment):
    segment.leave_name()
    segment.close()
    assert path_of(segment).exists()
    path_of(segment).unlink()


def test_a_name_that_was_used_is_not_remembered():
    """A process that hands out connections for months must not keep something of each."""
    names = []
    for _ in range(3):
        segment = Segment.create("test", SIZE)
        segment.leave_name()
        segment.close()
        names.append(segment.name)
        path_of(segment).unlink()  # as whoever takes the second seat does
    assert len({name for name, _ in module._left} & set(names)) == 1, "the last one is only forgotten with the next"


@pytest.mark.parametrize("size", [1 << 45, 1 << 50, 1 << 60])
def test_a_segment_that_does_not_fit_is_out_of_shared_memory_and_leaves_nothing(size):
    with pytest.raises(OutOfSharedMemory, match=f"{size:,} bytes"):
        Segment.create("test", size, f"absurd-{os.getpid()}")
    assert not (DIRECTORY / f"{PREFIX}absurd-{os.getpid()}").exists()


def test_a_pipe_that_does_not_fit_is_out_of_shared_memory():
    with pytest.raises(OutOfSharedMemory, match="zcipc clean"):
        zcipc.Pipe(capacity=1 << 44)


# --- what is refused


@pytest.mark.parametrize("content", [b"", b"zcipc", bytes(HEADER_BYTES - 1), bytes(SIZE), b"zcipc\x00\r\n" + bytes(8)])
def test_what_another_program_made_is_foreign(foreign, content):
    foreign.write_bytes(content)
    with pytest.raises(ForeignSegment):
        Segment.attach("test", foreign.name)


def test_a_segment_of_another_kind_is_foreign(segment):
    with pytest.raises(ForeignSegment, match="test"):
        Segment.attach("channel", segment.name)


def test_another_layout_version_is_a_mismatch(segment):
    put_word(segment, VERSION_AT, 99)
    with pytest.raises(VersionMismatch, match="version 99"):
        Segment.attach("test", segment.name)


@pytest.mark.parametrize("size", [HEADER_BYTES, SIZE - 1, SIZE + 4096])
def test_a_segment_of_the_wrong_size_is_corrupt(segment, size):
    os.truncate(path_of(segment), size)
    with pytest.raises(CorruptSegment):
        Segment.attach("test", segment.name)
    os.truncate(path_of(segment), SIZE)


def test_a_size_that_is_overwritten_is_corrupt(segment):
    put_word(segment, SIZE_AT, SIZE * 2)
    with pytest.raises(CorruptSegment, match="truncated or overwritten"):
        Segment.attach("test", segment.name)


def test_a_channel_with_an_impossible_capacity_is_corrupt():
    segment = Segment.create("channel", 4096 + 2 * 3000)
    with pytest.raises(CorruptSegment, match="3,000"):
        zcipc.Connection(segment, 0)
    segment.close()


# --- what the dead left


def test_clean_removes_what_a_dead_creator_left_and_nothing_else(segment, foreign, left_by_the_dead):
    assert left_by_the_dead.exists()
    assert left_by_the_dead in stale_segments()
    removed = clean()
    assert left_by_the_dead.name in removed
    assert segment.name not in removed
    assert foreign.name not in removed
    assert (left_by_the_dead.exists(), path_of(segment).exists(), foreign.exists()) == (False, True, True)
    assert left_by_the_dead.name not in clean()


@pytest.mark.parametrize("content", [b"", b"zcipc\x00\r\n", bytes(SIZE)])
def test_clean_leaves_what_it_does_not_know(foreign, content):
    foreign.write_bytes(content)
    assert foreign.name not in clean()
    assert foreign.exists()


def test_a_later_process_with_the_number_of_the_creator_does_not_keep_its_segment(segment):
    put_word(segment, START_TIME_AT, 1)
    assert path_of(segment) in stale_segments()


def test_a_creator_in_another_pid_namespace_counts_as_alive(segment):
    put_word(segment, START_TIME_AT, 1)
    put_word(segment, NAMESPACE_AT, 1)
    assert path_of(segment) not in stale_segments()


def test_clean_does_not_wait_at_what_is_no_file(foreign):
    foreign.unlink(missing_ok=True)
    os.mkfifo(foreign)
    assert foreign.name not in clean()
    foreign.unlink()
    foreign.mkdir()
    try:
        assert foreign.name not in clean()
    finally:
        foreign.rmdir()


def test_clean_removes_what_was_never_signed_once_it_is_old(foreign):
    """A creator killed between the name and the header leaves zeros; one that is at work right now has zeros, too."""
    foreign.write_bytes(bytes(SIZE))
    assert foreign.name not in clean()
    an_hour_ago = time.time() - 3600
    os.utime(foreign, (an_hour_ago, an_hour_ago))
    assert foreign.name in clean()
