"""How near zcipc is to what the hardware allows, and how far ahead of everything else: the scenarios of `zcipc bench`.

A scenario is one file: what is measured, against what, and the reason. A new one is one file more and one line here.
"""

from zcipc.lab.bench import (
    array_copy,
    blocking,
    bulk_stream,
    caged,
    calls,
    echo,
    event_loops,
    hand_over,
    idle,
    many_connections,
    objects,
    queue_throughput,
    round_trip,
    small_stream,
    start_up,
)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        round_trip.SCENARIO,
        small_stream.SCENARIO,
        bulk_stream.SCENARIO,
        echo.BYTES,
        echo.LOANS,
        hand_over.SCENARIO,
        array_copy.SCENARIO,
        blocking.TWO_CORES,
        blocking.ONE_CORE,
        idle.SCENARIO,
        caged.SCENARIO,
        start_up.SCENARIO,
        many_connections.SCENARIO,
        queue_throughput.SCENARIO,
        calls.SCENARIO,
        event_loops.SCENARIO,
        objects.SCENARIO,
    )
}
