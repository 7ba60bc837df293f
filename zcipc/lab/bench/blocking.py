"""An echo whose ends sleep while they wait, on two cores and on one: against the kernel's pipe, and against a bare futex."""

from collections.abc import Sequence

from zcipc.lab.bench.further_limits import SleepingLimit
from zcipc.lab.bench.round_trip import compiled_echo
from zcipc.lab.bench.scenario import LIMIT, PIPE, Effort, Scenario, Series, own
from zcipc.lab.transports.pipe import Pipe
from zcipc.lab.transports.ring import Blocking

SIZE = 64  # bytes


def _series(one_core: bool, effort: Effort) -> Sequence[Series]:
    arguments = (SIZE, effort.blocks, effort.samples, one_core)
    return [
        own(LIMIT, "compiled", "block", compiled_echo, SleepingLimit, *arguments),
        own("zcipc", "compiled", "block", compiled_echo, Blocking, *arguments),
        own(PIPE, "compiled", "block", compiled_echo, Pipe, *arguments),
    ]


TWO_CORES = Scenario("block_two_cores", "compiled echo, sleeping, on two cores", lambda effort, _: _series(False, effort))
ONE_CORE = Scenario("block_one_core", "compiled echo, sleeping, on one core", lambda effort, _: _series(True, effort))
