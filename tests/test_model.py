"""The queue and its waiting as a model, explored exhaustively: the right one holds, and each broken one is caught."""

import re
import subprocess
from pathlib import Path

import pytest
from support import require_tool

MODEL = Path(__file__).with_name("models") / "ring.pml"
BROKEN = set(re.findall(r"BROKEN_[A-Z]\w+", MODEL.read_text(encoding="utf-8")))

# What breaks, where it shows: memory, waiting, and what spin says.
ASLEEP = "invalid end state"
WRONG = "assertion violated"
CAUGHT = {
    "BROKEN_BELL_AFTER_LOOK": [("TSO", "BARRIER", ASLEEP), ("TSO", "FENCES", ASLEEP)],
    "BROKEN_SLEEPER_WITHOUT_MEMBARRIER": [("TSO", "BARRIER", ASLEEP), ("WEAK", "BARRIER", ASLEEP)],
    "BROKEN_SLEEPER_WITHOUT_FENCE": [("WEAK", "FENCES", ASLEEP)],
    "BROKEN_WAKER_WITHOUT_FENCE": [("TSO", "FENCES", ASLEEP), ("WEAK", "FENCES", ASLEEP)],
    "BROKEN_SWITCH_WITHOUT_MEMBARRIER": [("TSO", "SWITCHING", ASLEEP)],
    "BROKEN_GAP_PUBLISHED_SILENTLY": [("TSO", "BARRIER", ASLEEP)],
    "BROKEN_GAP_PASSED_SILENTLY": [("TSO", "BARRIER", ASLEEP)],
    "BROKEN_NEXT_NOT_CLEARED": [("TSO", "BARRIER", WRONG)],
    "BROKEN_HEADER_BEFORE_PAYLOAD": [("TSO", "BARRIER", WRONG)],
    "BROKEN_HEADER_RELAXED": [("PSO", "BARRIER", WRONG)],
    "BROKEN_PEEK_RELAXED": [("WEAK", "BARRIER", WRONG)],
    "BROKEN_HEAD_BEFORE_PAYLOAD": [("TSO", "BARRIER", WRONG)],
    "BROKEN_HEAD_RELAXED": [("WEAK", "BARRIER", WRONG)],
    "BROKEN_CLOSE_RELAXED": [("PSO", "BARRIER", WRONG)],
    "BROKEN_CLOSED_READ_RELAXED": [("WEAK", "BARRIER", WRONG)],
}


def explore(folder, memory, waiting, *broken, optimise="-O1"):
    """What the verifier made from the model says. WEAK has so many states that its sleeps are never disturbed."""
    chosen = [f"-DMEMORY={memory}", f"-DWAITING={waiting}", f"-DDISTURBANCES={int(memory != 'WEAK')}"]
    commands = (
        [require_tool("spin"), "-a", *chosen, *(f"-D{name}" for name in broken), MODEL],
        [require_tool("gcc"), optimise, "-w", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c"],
        ["./pan", "-m100000"],
    )
    for command in commands:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def errors(said):
    return int(re.search(r"errors: (\d+)", said)[1])


@pytest.mark.slow
@pytest.mark.parametrize("waiting", ["BARRIER", "FENCES", "SWITCHING"])
@pytest.mark.parametrize("memory", ["TSO", "PSO", "WEAK"])
def test_nothing_is_lost_and_nobody_sleeps_for_ever(tmp_path, memory, waiting):
    said = explore(tmp_path, memory, waiting)
    assert errors(said) == 0, said
    assert "Search not completed" not in said
    assert "max search depth too small" not in said
    assert int(re.search(r"(\d+) states, stored", said)[1]) > 1_000_000
    if waiting == "SWITCHING":  # which has need of every line
        for process in ("producer", "consumer"):
            assert f"unreached in proctype {process}\n\t(0 of" in said


@pytest.mark.parametrize(
    ("name", "memory", "waiting", "verdict"), [(name, *place) for name, places in CAUGHT.items() for place in places]
)
def test_what_is_broken_is_caught(tmp_path, name, memory, waiting, verdict):
    said = explore(tmp_path, memory, waiting, name, optimise="-O0")
    assert errors(said) > 0
    assert verdict in said


def test_every_broken_variant_is_tried():
    assert set(CAUGHT) == BROKEN


@pytest.mark.slow
@pytest.mark.parametrize("name", ["BROKEN_HEADER_RELAXED", "BROKEN_PEEK_RELAXED"])
def test_only_a_weaker_memory_shows_a_missing_release_or_acquire(tmp_path, name):
    """On x86-64 every store releases and every load acquires: to look there, by model or by test, would prove nothing."""
    assert errors(explore(tmp_path, "TSO", "BARRIER", name)) == 0
