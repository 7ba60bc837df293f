"""How much is measured: three profiles, from a test of everything to a publication."""

from dataclasses import dataclass

from zcipc.lab.errors import UsageError

SIZES = tuple(64 << doubling for doubling in range(8))  # bytes, 64 B to 8 KiB as in Figs. 5 and 7 of the paper
INJECTION_SIZES = (64, 65_000)  # bytes: the paper's results say 64 B, its method 65 KB, and its KB is 1000 B ("0,064KB")
VOLUMES = (100, 500, 1000, 2000)  # messages an injection; the last only in the paper's method


@dataclass(frozen=True)
class PeerPlan:
    """The same for the comparison with other libraries, where every size of every series is a launch of its own.

    Attributes:
        launches: as in `Profile`.
        sizes: message sizes, in bytes.
        blocks: timed blocks of round trips.
        block_ns: about how long a block takes.
        samples: round trips that are timed one by one, as many as take no longer than all blocks.
        bursts: bursts one way.
    """

    launches: int
    sizes: tuple[int, ...]
    blocks: int
    block_ns: int
    samples: int
    bursts: int


@dataclass(frozen=True)
class MicrokernelPlan:
    """The same for application, file server and driver.

    Attributes:
        launches: as in `Profile`.
        sizes: of files, in bytes.
        file_bytes: a file is read and written until about as many bytes went.
        kills: of the driver, in a launch.
    """

    launches: int
    sizes: tuple[int, ...]
    file_bytes: int
    kills: int


@dataclass(frozen=True)
class Profile:
    """The grid and the repetitions of each experiment.

    Attributes:
        launches: fresh pairs of processes for each transport and runtime; the unit of every statistic.
        sizes: message sizes of ping-pong and latency, in bytes.
        blocks: timed blocks of round trips for each size and launch.
        samples: round trips, or paced messages, that are timed one by one.
        injection_launches: the same as `launches`, for injection, where each takes long.
        injections: bursts of each series and launch, after one to warm up.
        volumes: messages in a burst.
        intervals: seconds from one burst of a series to the next.
        peers: the comparison with other libraries.
        microkernel: application, file server and driver.
    """

    launches: int
    sizes: tuple[int, ...]
    blocks: int
    samples: int
    injection_launches: int
    injections: int
    volumes: tuple[int, ...]
    intervals: tuple[float, ...]
    peers: PeerPlan
    microkernel: MicrokernelPlan


PROFILES = {
    "smoke": Profile(
        launches=3, sizes=(64, 512, 8192), blocks=5, samples=300,
        injection_launches=3, injections=1, volumes=(100, 2000), intervals=(0.5,),
        peers=PeerPlan(launches=1, sizes=(64, 65536), blocks=3, block_ns=1_000_000, samples=200, bursts=1),
        microkernel=MicrokernelPlan(launches=2, sizes=(4096, 1 << 20, 16 << 20), file_bytes=8 << 20, kills=1),
    ),
    "quick": Profile(
        launches=7, sizes=SIZES, blocks=11, samples=1000,
        injection_launches=6, injections=2, volumes=VOLUMES, intervals=(0.5, 1.0),
        peers=PeerPlan(
            launches=3, sizes=(64, 8 << 10, 64 << 10, 1 << 20, 4 << 20),
            blocks=5, block_ns=1_500_000, samples=2000, bursts=1,
        ),
        microkernel=MicrokernelPlan(
            launches=5, sizes=(4096, 64 << 10, 1 << 20, 16 << 20, 64 << 20), file_bytes=64 << 20, kills=2,
        ),
    ),
    "full": Profile(
        launches=12, sizes=SIZES, blocks=21, samples=4000,
        injection_launches=7, injections=2, volumes=VOLUMES, intervals=(0.5, 1.0, 2.0, 5.0),
        peers=PeerPlan(
            launches=7, sizes=tuple(64 << 2 * step for step in range(10)),
            blocks=5, block_ns=3_000_000, samples=4000, bursts=2,
        ),
        microkernel=MicrokernelPlan(
            launches=12, sizes=tuple(4096 << 2 * step for step in range(8)), file_bytes=64 << 20, kills=3,
        ),
    ),
}  # fmt: skip


def profile(name: str) -> Profile:
    """The profile called `name`.

    Raises:
        UsageError: there is none; lists those that are.
    """
    try:
        return PROFILES[name]
    except KeyError:
        raise UsageError(f"there is no profile {name!r}; profiles: {', '.join(PROFILES)}") from None
