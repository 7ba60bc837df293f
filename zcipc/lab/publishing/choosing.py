"""The measurements in CHOOSING.md: how to send, how to wait, how large a queue, which class.

They are those of the reference run and, of what it does not measure, of `zcipc bench --only idle --only queue --json
data/choosing.json`. `python -m zcipc.lab.publishing.choosing` puts them into the document, each between two comments.
"""

import json
from itertools import takewhile
from pathlib import Path

import pandas as pd

from zcipc.ends.end import DEFAULT_CAPACITY
from zcipc.lab.harness import stats
from zcipc.lab.publishing import markdown
from zcipc.lab.runs.results import ROOT, Run

DOCUMENT = Path("CHOOSING.md")
BENCH = Path("data/choosing.json")

_KIB = 1024
_US = 1000  # ns


def filled(text: str, run: Run) -> str:
    """`text` with the measurements of `run`, and of the bench that is kept beside it, in their places."""
    bench = pd.DataFrame(json.loads((run.root / BENCH).read_text(encoding="utf-8"))["rows"])
    tables = {"sending": _sending(run), "waiting": _waiting(run, bench), "capacity": _capacity(run), "queues": _queues(bench)}
    return markdown.filled(text, tables)


def _sending(run: Run) -> str:
    peers = run.load("peers")
    round_trips = peers.pivot_table("round_trip_ns", "message_bytes", ["system", "mode", "face"], "median")
    copied, loaned = round_trips["zcipc", "hybrid", "copy"], round_trips["zcipc", "hybrid", "loan"]
    pipe = round_trips["mp_pipe", "block", "copy"]
    payload = run.load("design_choices").query("choice == 'payload'")
    touched = payload.pivot_table("value", "message_bytes", "variant", "median")
    rows = [
        [
            _size(size), *(_us(of[size]) for of in (pipe, copied, loaned)),
            *(_us(touched[way].get(size)) for way in ("copied in and out", "loaned")),
        ]
        for size in copied.dropna().index
    ]  # fmt: skip
    heading = [
        "round trip, µs", "`multiprocessing.Pipe`", "`send_bytes`, `recv_bytes`", "`loan`, `borrow`",
        "compiled, every byte written and read: copied", "loaned",
    ]  # fmt: skip
    return f"A loan is faster from {_size(_loan_pays_from(peers))} on.\n\n{markdown.table(heading, rows, 'rrrrrr')}"


def _loan_pays_from(peers: pd.DataFrame) -> int:
    """The smallest message from which on a loan is faster at every size, its whole interval below one."""
    ours = peers.query("system == 'zcipc' and mode == 'hybrid'")
    times = {key: group["round_trip_ns"] for key, group in ours.groupby(["face", "message_bytes"])}
    sizes = sorted(ours["message_bytes"].unique(), reverse=True)
    return int(list(takewhile(lambda size: stats.ratio_ci(times["loan", size], times["copy", size]).high < 1, sizes))[-1])


def _waiting(run: Run, bench: pd.DataFrame) -> str:
    trips = run.load("design_choices").query("choice == 'waiting'").groupby("variant")["value"].median()
    beats = run.load("realtime").query("scheduler == 'other' and rate_hz == 1000")
    late = beats.groupby(["load", "transport"])[["delivery_p50_ns", "delivery_p99_ns"]].median()
    idle = bench.query("scenario == 'idle'").set_index("mode")["value"]
    rows = [
        [
            f"`{name}`", _us(trips[variant]),
            *(f"{_us(late.loc[load, series].iloc[0])} / {_us(late.loc[load, series].iloc[1])}" for load in ("idle", "cpu")),
            f"{idle[name.lower()]:.1f} %" if name.lower() in idle else "all of it",
        ]
        for name, variant, series in (
            ("SPIN", "spin", "zcipc_spin"),
            ("HYBRID", "spin, then futex", "zcipc"),
            ("BLOCK", "futex at once", "zcipc_block"),
        )
    ]  # fmt: skip
    heading = [
        "", "round trip of 64 B, µs", "delivery each ms, median / 99 %, µs", "the same beside CPU load",
        "of a core while nothing comes",
    ]  # fmt: skip
    return markdown.table(heading, rows, "lrrrr")


def _capacity(run: Run) -> str:
    choice = run.load("design_choices").query("choice == 'capacity'")
    times = choice.pivot_table("value", "variant", "metric", "median")
    names = {"4 KiB": "4 KiB", "64 KiB": "64 KiB", "the default": f"{_size(DEFAULT_CAPACITY)}, the default", "16 MiB": "16 MiB"}
    rows = [
        [shown, *(f"{times.loc[name, metric]:.3g}" for metric in ("round_trip", "stream"))] for name, shown in names.items()
    ]
    return markdown.table(["capacity", "round trip of 64 B, ns", "stream of 8 B, ns a message"], rows, "lrr")


def _queues(bench: pd.DataFrame) -> str:
    rates = bench.query("scenario == 'queue'").pivot(index="system", columns="mode", values="value")
    modes = {"1_to_1": "1 to 1", "4_to_4": "4 to 4", "1_to_1_many": "1 to 1, `put_many` of 100"}
    names = {
        "zcipc": "`zcipc.Queue`",
        "faster_fifo": "`faster_fifo.Queue`",
        "multiprocessing": "`multiprocessing.Queue`",
        "multiprocessing_simple": "`multiprocessing.SimpleQueue`",
    }
    rows = [
        [shown, *("" if pd.isna(rate := rates[mode].get(name)) else f"{rate / 1000:,.0f}" for mode in modes)]
        for name, shown in names.items()
    ]
    return markdown.table(["thousand items of 64 B a second", *modes.values()], rows, "lrrr")


def _us(ns: float | None) -> str:
    """Microseconds, to three digits; nothing for what was not measured."""
    if ns is None:
        return ""
    return f"{ns / _US:,.0f}" if ns >= 100 * _US else f"{ns / _US:.3g}"


def _size(size: int) -> str:
    for unit, scale in (("MiB", _KIB**2), ("KiB", _KIB)):
        if size >= scale:
            return f"{size // scale} {unit}"
    return f"{size} B"


if __name__ == "__main__":
    document = ROOT / DOCUMENT
    document.write_text(filled(document.read_text(encoding="utf-8"), Run.open("reference")), encoding="utf-8")
