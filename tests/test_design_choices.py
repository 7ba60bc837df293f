"""The design choices: every variant is a working queue, every choice is in the table, the figure draws what it is given."""

import os
import time
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numba import njit

from zcipc.lab.harness.launch import measure
from zcipc.lab.measurements import design_choices, design_tasks, loops
from zcipc.lab.measurements.effects import effects as effects_of
from zcipc.lab.plots import design_choices as draw
from zcipc.lab.plots.design import METRICS
from zcipc.lab.runs.results import Run
from zcipc.lab.transports import room
from zcipc.lab.variants import VARIANTS
from zcipc.lab.variants import memory as memories
from zcipc.lab.variants.memory import Unavailable
from zcipc.lab.variants.queue import Queue

LAUNCHES = 6
QUEUES = ("queue", "separate_indices", "read_each_time", "line_64", "no_padding", "aligned_64")
FEW_BYTES = 512  # of capacity: a queue that is full at once and begins anew all the time
LENGTHS = (8, 64, 200)
BLOCKS = 2


def streams_through(names, lengths):
    """The slots of each queue, and the time of a message that went through it, with many others, lap after lap."""
    found = {}
    for name, length in product(names, lengths):
        transport = VARIANTS[name](length, capacity=FEW_BYTES)
        found[name, length] = transport.slots, design_tasks.stream(transport, BLOCKS)
    return found


def fill(names, length):
    return {name: messages_until_full(name, length) for name in names}


def messages_until_full(name, length):
    """Whether a sender waits once every slot is taken, how many messages then fail, and how the sender ended."""
    transport = VARIANTS[name](length, capacity=FEW_BYTES)
    producer, consumer = transport.compiled_end(0), transport.compiled_end(1)
    loops.inject(producer, length, transport.slots - 1)
    child = os.fork()
    if child == 0:
        loops.inject(producer, length, 1)
        os._exit(0)
    time.sleep(0.05)
    waits = os.waitpid(child, os.WNOHANG) == (0, 0)
    failures, _ = loops.absorb(consumer, length, transport.slots - 1)
    _, status = os.waitpid(child, 0)
    last_failed, _ = loops.absorb(consumer, length, 1)
    return waits, failures + last_failed, status


@pytest.fixture(scope="module")
def streams():
    return measure(streams_through, QUEUES, LENGTHS)


@pytest.fixture(scope="module")
def filled():
    return measure(fill, QUEUES, 64)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", QUEUES)
def test_a_queue_delivers_in_order_lap_after_lap(streams, name, length):
    slots, nanoseconds = streams[name, length]
    assert 2 <= slots <= FEW_BYTES // length
    assert nanoseconds > 0


@pytest.mark.parametrize("name", QUEUES)
def test_a_full_queue_waits_and_loses_nothing(filled, name):
    assert filled[name] == (True, 0, 0)


def test_the_library_switched_delivers_in_order():
    switched = ["fenced", "spinning", "sleeping", "semaphores", "capacity_4k", "copying", "loaning"]
    measurements = [(name, metric, 64) for name in switched for metric in ("round_trip", "stream")]
    measurements += [
        (name, metric, 64) for name in ("entry_point", "dispatcher") for metric in ("call", "interpreted_round_trip")
    ]
    results = measure(design_tasks.compare, measurements, BLOCKS)
    assert set(results) == set(measurements)
    assert all(value > 0 and not missing for value, missing in results.values())


def test_a_message_out_of_order_is_not_counted_as_measured():
    transport = VARIANTS["queue"](64)
    producer, consumer = transport.compiled_end(0), transport.compiled_end(1)
    loops.inject(producer, 64, 2)
    loops.absorb(consumer, 64, 1)
    failures, _ = loops.absorb(consumer, 64, 1)  # expects the first stamp and gets the second
    assert failures == 1


def addresses(name, length):
    """Where the first messages are written."""
    transport = VARIANTS[name](length)
    end = transport.compiled_end(0)
    found = []
    for stamp in range(3):
        found.append(_room(end, length))
        loops.post(end, length, stamp)
    return found


@njit
def _room(end, length):
    return room(end, length)


@pytest.mark.parametrize("length", LENGTHS)
def test_aligned_payloads_are_aligned(length):
    assert all(address % 64 == 0 for address in addresses("aligned_64", length))
    assert not all(address % 64 == 0 for address in addresses("queue", length))


@pytest.mark.parametrize(
    "kind", [memories.Reserved, memories.Untouched, memories.Populated, memories.TransparentHuge, memories.Hugetlb]
)
def test_memory_is_what_it_says_or_says_that_it_cannot_be(kind):
    try:
        memory = kind(1)
    except Unavailable as missing:
        pytest.skip(str(missing))
    memory.enter()
    memory.buffer[-1] = 7
    assert memory.buffer[-1] == 7
    assert memory.buffer[0] == 0


def test_pages_are_there_as_early_as_each_kind_promises():
    reserved, untouched = memories.Reserved(1 << 21), memories.Untouched(1 << 21)
    assert resident(reserved) == resident(untouched) == 0
    populated = memories.Populated(1 << 21)
    populated.enter()
    assert resident(populated) == 1 << 21


def resident(memory):
    """Bytes of a mapping that are mapped in this process."""
    address = memories.mapping_address(memory.buffer)
    lines = iter(Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(f"{address:x}-"):
            return next(int(field.split()[1]) * 1024 for field in lines if field.startswith("Rss:"))
    raise AssertionError("the memory is not mapped")


def test_the_first_lap_ends_where_the_queue_does():
    transport = VARIANTS["reserved"](1 << 16)
    assert isinstance(transport, Queue)
    assert transport.slots * (1 << 16) <= 16 << 20
    with pytest.raises(TypeError, match="lap"):
        design_tasks.first_lap(VARIANTS["loaning"](64), 1)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """All choices in a single launch: one block of each suffices to see that it is there."""
    run = Run.open("test", "smoke", tmp_path_factory.mktemp("root"))
    frame = design_choices.design_choices(run, launches=1)
    pd.testing.assert_frame_equal(run.load("design_choices"), frame)
    return frame


def test_the_table_has_every_choice_with_what_is_shipped_and_all_else(measured):
    for choice in design_choices.CHOICES:
        rows = measured[measured["choice"] == choice.name]
        assert len(rows) == len(choice.variants) * len(choice.comparisons)
        assert set(rows[rows["shipped"]]["variant"]) == {choice.shipped.label}
        assert set(rows[~rows["shipped"]]["variant"]) == {variant.label for variant in choice.others}
    assert list(dict.fromkeys(measured["choice"])) == [choice.name for choice in design_choices.CHOICES]
    assert set(measured["unit"]) == {"ns"}


def test_a_value_is_there_or_the_reason_why_not(measured):
    assert ((measured["value"] > 0) ^ (measured["missing"] != "")).all()
    assert set(measured[measured["missing"] != ""]["choice"]) <= {"pages", "first touch"}


def test_every_variant_serves_a_choice_and_every_choice_exists():
    used = {variant.name for choice in design_choices.CHOICES for variant in choice.variants}
    assert used == set(VARIANTS)
    assert {metric for choice in design_choices.CHOICES for metric, _ in choice.comparisons} == set(METRICS)


def synthetic(ratio=1.5):
    """Launches whose speed differs tenfold, and in each of which every alternative takes `ratio` times as long."""
    rows = []
    for choice in design_choices.CHOICES:
        for variant in choice.variants:
            for metric, size in choice.comparisons:
                for launch in range(LAUNCHES):
                    value = 100.0 * 10 ** (launch / LAUNCHES) * (1 if variant is choice.shipped else ratio)
                    gone = choice.name == "pages" and variant is not choice.shipped
                    key = {"choice": choice.name, "variant": variant.label, "shipped": variant is choice.shipped}
                    key |= {"metric": metric, "message_bytes": size, "launch": launch}
                    rows.append(key | {"value": np.nan if gone else value, "missing": "no huge pages" if gone else ""})
    return pd.DataFrame(rows)


def test_a_ratio_is_taken_within_each_launch():
    effects = effects_of(synthetic(1.5))
    known = effects[effects["missing"] == ""]
    np.testing.assert_allclose(known[["ratio", "low", "high"]], 1.5)
    assert (known["launches"] == LAUNCHES).all()
    missing = effects[effects["missing"] != ""]
    assert set(missing["choice"]) == {"pages"}
    assert missing[["ratio", "low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize("ratio", [0.01, 1.0, 300.0])
def test_the_figure_shows_every_alternative_even_far_outside_its_axis(ratio):
    effects = effects_of(synthetic(ratio))
    figure = draw(effects)
    (axes,) = figure.axes
    markers = [line for line in axes.get_lines() if line.get_marker() != "None"]
    assert len(markers) == len(effects[effects["missing"] == ""])
    low, high = axes.get_xlim()
    assert all(low <= line.get_xdata()[0] <= high for line in markers)
    pointing = {line.get_marker() for line in markers}
    assert pointing == ({"<"} if ratio < low else {">"} if ratio > high else {METRICS[metric].marker for metric in METRICS})
    written = [text.get_text() for text in axes.texts]
    assert sum("not offered" in text for text in written) == len(effects[effects["missing"] != ""])
    for choice in design_choices.CHOICES:
        assert choice.name in written


def test_a_difference_is_filled_and_none_is_hollow():
    for ratio, filled in ((1.0, False), (1.5, True)):
        (axes,) = draw(effects_of(synthetic(ratio))).axes
        markers = [line for line in axes.get_lines() if line.get_marker() != "None"]
        assert {line.get_markerfacecolor() != "white" for line in markers} == {filled}
