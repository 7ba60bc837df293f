"""Table 1 of the paper: eleven related systems against six properties, as data."""

from dataclasses import asdict, dataclass

import pandas as pd

PROPERTIES = {
    "zero_copy": "zero copy",
    "synchronous": "synchronous communication",
    "serialization": "serialization",
    "shared_memory": "data through shared memory",
    "kernel_bypass": "kernel bypass",
    "reduced_overhead": "reduced overhead",
}
"""Column name -> title, in the order of the paper's columns."""


@dataclass(frozen=True)
class Properties:
    """The marks of one row, as the paper's table sets them."""

    zero_copy: bool = False
    synchronous: bool = False
    serialization: bool = False
    shared_memory: bool = False
    kernel_bypass: bool = False
    reduced_overhead: bool = False


@dataclass(frozen=True)
class System:
    """One related system."""

    name: str
    reference: str
    year: int
    properties: Properties
    headline: str
    """Its main result, as the paper reports it; where the paper reports none, its idea."""


SYSTEMS = (
    System(
        "Demikernel",
        "Zhang et al. 2021",
        2021,
        Properties(zero_copy=True, kernel_bypass=True),
        "echo latencies of microseconds, through queues with push, pop and wait",
    ),
    System(
        "TAS",
        "Kaufmann et al. 2019",
        2019,
        Properties(shared_memory=True),
        "lower RPC latency, with TCP's common path on cores of its own",
    ),
    System(
        "zIO",
        "Stamler et al. 2022",
        2022,
        Properties(zero_copy=True, serialization=True, shared_memory=True, kernel_bypass=True),
        "up to 1.8 times faster on Linux, up to 2.5 times over kernel-bypass stacks",
    ),
    System(
        "RedLeaf",
        "Narayanan et al. 2020",
        2020,
        Properties(zero_copy=True, synchronous=True, serialization=True),
        "isolation by language: heaps apart, one owner for each object, calls by proxy",
    ),
    System(
        "Userspace Bypass",
        "Zhou et al. 2023",
        2023,
        Properties(reduced_overhead=True),
        "Redis 4.4 % to 10.8 % faster, an I/O micro-benchmark 30.3 % to 88.3 %",
    ),
    System(
        "SkyBridge",
        "Mi et al. 2019",
        2019,
        Properties(zero_copy=True, synchronous=True, kernel_bypass=True, reduced_overhead=True),
        "IPC 1.49, 5.86 and 19.6 times faster on one core (seL4, Fiasco.OC, Zircon); 16.08, 20.31 and 49.76 times across cores",
    ),
    System(
        "Cornflakes",
        "Raghavan et al. 2023",
        2023,
        Properties(zero_copy=True, serialization=True, shared_memory=True, kernel_bypass=True),
        "hybrid serialization: small fields are copied, large ones referenced",
    ),
    System(
        "Snap",
        "Marty et al. 2019",
        2019,
        Properties(zero_copy=True, synchronous=True),
        "82.2 Gbps on one core, where the kernel's TCP gives 22; latency under 10 µs",
    ),
    System(
        "Zerializer",
        "Wolnikowski et al. 2021",
        2021,
        Properties(zero_copy=True, serialization=True),
        "serialization in the DMA path: about 19 Gbps on an FPGA, 128 Gbps on an ASIC",
    ),
    System(
        "z-READ",
        "Park et al. 2019",
        2019,
        Properties(zero_copy=True),
        "neighbours slowed by up to 1.07 times, where copying slows them by up to 1.96",
    ),
    System(
        "Nanvix",
        "Penna 2021",
        2021,
        Properties(zero_copy=True, synchronous=True, serialization=True, shared_memory=True, kernel_bypass=True),
        "POSIX calls on a distributed microkernel: the system the paper wants to run in",
    ),
)
"""The eleven rows, in the order of the paper's table."""

PROPOSAL = Properties(zero_copy=True, synchronous=True, serialization=True, shared_memory=True, kernel_bypass=True)
"""What the paper claims for its own library: every property except reduced overhead (claim C10)."""

REMARKS = (
    "The text goes through the columns in another order than the table has: it discusses the overhead of "
    "system calls second, where the table has it last. We keep the table's order and match them by meaning.",
    "The table has no row for the proposal. The text alone gives its properties, and they are the very marks "
    "of the last row, Nanvix, which is also the one system of the table that the review does not describe.",
    "The last column is headed 'reduced overhead', but what the text discusses there is the overhead of "
    "system calls alone, and it is marked for Userspace Bypass and SkyBridge only.",
    "Some marks do not follow from the descriptions: TAS takes TCP out of the kernel and Snap networks in "
    "user space, and neither has the mark for kernel bypass.",
    "For the proposal, 'zero copy' means no copy by the kernel: its two calls still copy each message into "
    "shared memory and out of it.",
)
"""What does not add up in the paper's comparison."""


def table() -> pd.DataFrame:
    """Table 1: one row a system, in the paper's order.

    Columns: system, reference, year, the six properties as bool (see PROPERTIES), headline.
    """
    return pd.DataFrame(
        {
            "system": system.name,
            "reference": system.reference,
            "year": system.year,
            **asdict(system.properties),
            "headline": system.headline,
        }
        for system in SYSTEMS
    )
