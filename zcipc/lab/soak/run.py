"""A soak from beginning to end: start the two, follow their records, judge."""

import json
import multiprocessing
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from zcipc import Pipe
from zcipc.lab.errors import LabError
from zcipc.lab.harness.display import clock
from zcipc.lab.harness.progress import report
from zcipc.lab.soak import work
from zcipc.lab.soak.judge import GROWS, Verdict, judge

SEED = 20240
_INTERVALS = 60
_SHORTEST_S, _LONGEST_S = 0.6, 60.0  # of an interval, which has a phase for each way of waiting
_PATIENCE_S = 30.0  # beyond the end of an interval

_context = multiprocessing.get_context("spawn")


class NotFlat(LabError):
    """Something was received that was not sent, grew, or stopped."""


def soak(seconds: float, json_file: str | None, console: Console) -> None:
    """Traffic for `seconds`, then the table.

    Raises:
        NotFlat: an answer was wrong, a series grows, or one of the two processes ended or hung.
        KeyboardInterrupt: after the table of the intervals so far.
    """
    interval_s = min(max(seconds / _INTERVALS, _SHORTEST_S), _LONGEST_S)
    intervals = max(round(seconds / interval_s), 1)
    records: list[work.Record] = []
    stopped: BaseException | None = None
    try:
        _follow(interval_s, intervals, records)
    except (KeyboardInterrupt, NotFlat) as reason:
        stopped = reason
    verdicts = judge(records)
    result = _result(records, verdicts)
    if json_file is not None:
        Path(json_file).write_text(json.dumps(result | {"intervals": records}, indent=1) + "\n", encoding="utf-8")
    _show(result, verdicts, console)
    if stopped is not None:
        raise stopped
    if result["wrong"] or (grown := [verdict.series for verdict in verdicts if verdict.verdict == GROWS]):
        raise NotFlat(f"{result['wrong']} wrong answers" if result["wrong"] else f"not flat: {', '.join(grown)}")


def _follow(interval_s: float, intervals: int, records: list[work.Record]) -> None:
    control, other = Pipe()
    source, sink = _context.Pipe(duplex=False)
    caller = _context.Process(target=work.call, args=(control, sink, interval_s, intervals, SEED), daemon=True)
    answerer = _context.Process(target=work.answer, args=(other,), daemon=True)
    processes = (caller, answerer)
    try:
        for process in processes:
            process.start()
        sink.close()
        for index in range(intervals):
            report(index, intervals, f"soak, {clock((intervals - index) * interval_s)} left, interval")
            records.append(_next(source, interval_s, len(records)))
        report(intervals, intervals, "soak, interval")
    finally:
        for process in processes:
            process.join(_PATIENCE_S if len(records) == intervals else 0)
            process.kill()
            process.join()
        control.close()
        other.close()


def _next(source: Any, interval_s: float, done: int) -> work.Record:
    deadline = time.monotonic() + interval_s + _PATIENCE_S
    try:
        if source.poll(max(deadline - time.monotonic(), 0)):
            record: work.Record = source.recv()
            return record
    except EOFError:
        raise NotFlat(f"the caller ended in interval {done}") from None
    raise NotFlat(f"no answer for {_PATIENCE_S:g} s in interval {done}")


def _result(records: list[work.Record], verdicts: list[Verdict]) -> dict[str, Any]:
    totals = {name: sum(record[name] for record in records) for name in ("messages", "bytes", "wrong")}
    seconds = round(records[-1]["end_s"], 1) if records else 0.0
    return {"seconds": seconds, **totals, "verdicts": [asdict(verdict) for verdict in verdicts]}


def _show(result: dict[str, Any], verdicts: list[Verdict], console: Console) -> None:
    console.print(
        f"{result['messages']:,} messages of {result['bytes']:,} bytes there and back in {clock(result['seconds'])}, "
        f"{result['wrong']:,} wrong",
        highlight=False,
    )
    if not verdicts:
        console.print("too few intervals to say whether memory and latency are flat")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("series")
    for heading in ("median", "gain", "at least", "at most", "allowed"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for one in verdicts:
        numbers = (one.median, one.gain, one.low, one.high, one.allowed)
        style = "bold red" if one.verdict == GROWS else None
        table.add_row(one.series.replace("_", " "), *(f"{number:,.0f}" for number in numbers), one.verdict, style=style)
    console.print(table)
