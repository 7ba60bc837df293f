"""What torture counts: what was done to the victims, and what it did to the survivors, which should be nothing."""

from dataclasses import dataclass, field, fields

FAULTS = ("lost", "duplicated", "torn", "out_of_order", "hangs", "leaks", "crashes")


@dataclass
class Tally:
    """Counts of one round, or of several.

    Attributes:
        messages: received and verified.
        kills, stops, corruptions, exhaustions: done to victims.
        lost: committed before the death of their sender, and never received.
        duplicated, torn, out_of_order: received twice, not as sent, or after a later one.
        hangs: calls that did not end in time.
        leaks: names left in shared memory, and descriptors left open.
        crashes: processes that ended by a signal nobody sent them, or calls that raised what no user could expect.
        failures: a line for each fault, with the step that it happened at.
    """

    messages: int = 0
    kills: int = 0
    stops: int = 0
    corruptions: int = 0
    exhaustions: int = 0
    lost: int = 0
    duplicated: int = 0
    torn: int = 0
    out_of_order: int = 0
    hangs: int = 0
    leaks: int = 0
    crashes: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def fault(self, kind: str, what: str, count: int = 1) -> None:
        """Count `count` faults of a kind, and keep one line about them; none if `count` is 0."""
        if count:
            setattr(self, kind, getattr(self, kind) + count)
            self.failures.append(f"{kind}: {count} {what}")

    @property
    def faults(self) -> int:
        return sum(getattr(self, kind) for kind in FAULTS)

    def counts(self) -> dict[str, int]:
        """Everything but the lines, in the order of the table."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "failures"}
