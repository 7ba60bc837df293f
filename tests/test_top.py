"""`zcipc top`: what passes, how full, who waits and who is dead, of real processes, in a terminal and on paper."""

import fcntl
import itertools
import mmap
import os
import pty
import random
import re
import signal
import struct
import sys
import termios
import threading
import time

import pytest
from support import PATIENCE, Child, eventually

import zcipc
from zcipc import cli, listing
from zcipc.commands import top
from zcipc.memory.segment import DIRECTORY, PREFIX

pytestmark = pytest.mark.usefixtures("tidy")

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def shown_name(segment):
    return segment.name.removeprefix(PREFIX)[:8]


def answer(end):
    while True:
        end.send_bytes(end.recv_bytes())


def ask(end):
    while True:
        end.send_bytes(bytes(1000))
        end.recv_bytes()
        time.sleep(0.001)


def rows_of(screen, name):
    """The line of a segment, and the second one below it, as words."""
    lines = screen.splitlines()
    at = next((index for index, line in enumerate(lines) if line.startswith(name)), None)
    return [] if at is None else [line.split() for line in lines[at : at + 2]]


def before_bar(row):
    """The word before the bar of a row: the last rate that is known."""
    return next(word for word, bar in itertools.pairwise(row) if bar[0] in "█·")


class Terminal:
    """`zcipc top` in a terminal of 80 columns."""

    def __init__(self, *arguments):
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.environ.pop("COLUMNS", None)
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 150, 80, 0, 0))
            os.execv(sys.executable, [sys.executable, "-m", "zcipc", "top", *arguments])
        self.written = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        while True:
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:  # it ended
                return
            self.written += data.decode(errors="replace")

    def screen(self):
        """The last one that was written to its end."""
        written = self.written
        end = written.rfind("\x1b[H")
        start = written.rfind("\x1b[H", 0, max(end, 0))
        return _ESCAPES.sub("", written[start:end]).replace("\r", "") if start > 0 else ""

    def end(self):
        """Press Ctrl-C; the exit status."""
        os.write(self._master, b"\x03")
        try:
            assert eventually(lambda: os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None)
        finally:
            os.kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self._reader.join()
            os.close(self._master)
        return os.waitstatus_to_exitcode(status)


def test_a_terminal_shows_rates_who_waits_and_who_is_dead_until_ctrl_c():
    (busy, other), (ours, theirs) = (zcipc.Pipe(waiting=zcipc.Waiting.BLOCK) for _ in range(2))
    with Child(ask, busy) as asking, Child(answer, other) as answering, Child(answer, theirs) as waiting:
        ours.send_bytes(bytes(5000))
        assert len(ours.recv_bytes(timeout=PATIENCE)) == 5000
        terminal = Terminal("--interval", "0.2")
        try:

            def busy_rows():
                return rows_of(terminal.screen(), shown_name(busy._segment))

            def idle_rows():
                return rows_of(terminal.screen(), shown_name(ours._segment))

            assert eventually(lambda: [before_bar(row)[-1] for row in busy_rows()] == ["k", "k"]), "bytes a second, each way"
            first, second = busy_rows()
            assert (first[3], second[2]) == (str(asking.pid), str(answering.pid))
            assert eventually(lambda: idle_rows()[1:] and idle_rows()[1][-1] == "message"), "it sleeps, waiting for one"
            assert str(waiting.pid) in idle_rows()[1]
            assert "alive" in idle_rows()[1]
            waiting.kill()
            assert eventually(lambda: "dead" in idle_rows()[1])
            assert "message" not in idle_rows()[1], "the dead wait for nothing"
            asking.kill()
            answering.kill()
            screen = terminal.screen()
            assert all(len(line) <= 80 for line in screen.splitlines())
            assert screen.index(shown_name(busy._segment)) < screen.index(shown_name(ours._segment)), "the busiest first"
        finally:
            status = terminal.end()
    assert status == 0
    assert "Traceback" not in terminal.written
    assert terminal.written.endswith("\x1b[?25h\x1b[?1049l"), "the cursor is back, and what was there before"
    ours.close()


def printed(capsys, *arguments):
    assert cli.main(["top", "--interval", "0.05", *arguments]) == 0
    return capsys.readouterr().out


def test_on_paper_there_is_one_table_or_as_many_as_are_asked_for(capsys):
    left, right = zcipc.Pipe(capacity=1 << 16)
    with left, right:
        left.send_bytes(bytes((1 << 15) - 8))
        table = printed(capsys)
        assert table.count("zcipc top") == 1
        assert all(len(line) <= 80 for line in table.splitlines())
        first, second = rows_of(table, shown_name(left._segment))
        assert (first[1:4], first[-4:]) == (["end", "0", str(os.getpid())], ["alive", "0", "██···", "50%"])
        assert second[:4] == ["end", "1", "free", "0"]
        assert printed(capsys, "--iterations", "3").count("zcipc top") == 3


def test_a_queue_shows_what_all_put_and_get(capsys):
    items = zcipc.Queue(waiting=zcipc.Waiting.BLOCK)

    def put():
        while True:
            items.put(b"12345678")
            time.sleep(0.001)

    def get():
        while True:
            items.get()

    with Child(put) as producer, Child(get) as consumer:
        assert eventually(lambda: items.statistics().items_got > 10)
        name = next(state.name for state in listing.snapshot() if {producer.pid, consumer.pid} <= set(state.mapped_by))
        producers, consumers = rows_of(printed(capsys), name.removeprefix("memfd-"))
        assert producers[1:4] == ["producers", "used", "by"]
        for row in (producers, consumers):
            bytes_per_s, items_per_s = (float(word.replace("k", "e3")) for word in row[row.index("·····") - 2 :][:2])
            assert bytes_per_s == pytest.approx(16 * items_per_s, rel=0.02)
            assert items_per_s > 0
        producer.kill()
        consumer.kill()


def test_a_broadcast_shows_each_reader_and_which_of_them_is_dead(capsys):
    sender = zcipc.Broadcast(2, capacity=4096)
    sender.send(bytes(2000))
    with Child(sender.readers[0].recv) as child:
        assert child.outcome() == bytes(2000)
    (state,) = (state for state in listing.snapshot() if state.kind == "broadcast" and state.mapped_by == (os.getpid(),))
    assert [seat.role for seat in state.seats] == ["sender", "reader 0", "reader 1"]
    assert [queue.queued for queue in state.queues] == [2016, 0, 2016]
    table = printed(capsys)
    first, dead = rows_of(table, state.name.removeprefix("memfd-"))
    assert first[1:3] == ["sender", str(os.getpid())]
    assert dead[:4] == ["reader", "0", str(child.pid), "dead"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0, "0"), (0.5, "0.5"), (999.4, "999"), (999.6, "1k"), (12345, "12.3k"), (2.5e9, "2.5G"), (2.0**63, "9.22E")],
)
def test_numbers_are_short(value, text):
    assert top._short(value) == text


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "inf", "soon"])
def test_an_interval_that_makes_no_sense_is_a_usage_error(interval, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["top", "--interval", interval])
    assert "--interval" in capsys.readouterr().err


def test_whatever_others_put_there_is_shown_and_nothing_obeyed(capsys):
    noise = random.Random(1)
    signed, fifo = DIRECTORY / f"{PREFIX}\x1b[31m-{os.getpid()}", DIRECTORY / f"{PREFIX}fifo-{os.getpid()}"
    left, right = zcipc.Pipe(capacity=4096)
    maps = []
    try:
        os.mkfifo(fifo)
        header = bytearray(left._segment.buffer[:4096])
        header[16:24] = b"\x1b[2J\x07\xff\n\x85"  # its kind
        header[128:] = noise.randbytes(len(header) - 128)
        signed.write_bytes(header)
        left._segment.buffer[128:4096] = noise.randbytes(4096 - 128)
        for name, size in (("queue", 4096), ("queue", 12288), ("broadcast-3", 8192), ("broadcast-999999", 8192)):
            descriptor = os.memfd_create(PREFIX + name)
            os.truncate(descriptor, size)
            os.pwrite(descriptor, noise.randbytes(min(size, 8192)), 0)
            maps.append(mmap.mmap(descriptor, size))
            os.close(descriptor)
        for command in (["ls"], ["top", "--interval", "0.01"]):
            assert cli.main(command) == 0
            said = capsys.readouterr().out
            assert "\x1b" not in said
            assert "?[31m-" in said
            assert "which no broadcast has" in said or command[0] == "top"
            assert f"fifo-{os.getpid()}"[:8] not in said
    finally:
        signed.unlink(missing_ok=True)
        fifo.unlink(missing_ok=True)
        for memory in maps:
            memory.close()
        left.close()
        right.close()


def test_segments_may_come_and_go_meanwhile():
    stopped = threading.Event()

    def make():
        while not stopped.is_set():
            left, right = zcipc.Pipe(capacity=4096)
            left.send(1)
            right.recv()
            left.close()
            right.close()

    makers = [threading.Thread(target=make) for _ in range(2)]
    for maker in makers:
        maker.start()
    try:
        looks = top._looks(0.01)
        for _ in range(20):
            next(looks)
    finally:
        stopped.set()
        for maker in makers:
            maker.join(PATIENCE)
