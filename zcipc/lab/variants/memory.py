"""Shared memory with the choices that the kernel leaves: when its pages come, and how large they are.

Each kind is made before the fork and entered by both processes after it, for a page is mapped in each process by itself.
"""

import mmap
import os
from pathlib import Path

from zcipc.lab.errors import LabError
from zcipc.memory.segment import mapping_address

_MADV_POPULATE_WRITE = 23  # Linux 5.14; Python has no name for it
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
_HUGE = 2 << 20  # bytes; what x86-64 and Arm with pages of 4 KiB call huge


class Unavailable(LabError):
    """This machine does not offer the choice; the message says what is missing."""


class Reserved:
    """As a segment is: its pages exist when it is made, and each process maps one when it first touches it."""

    flags = os.MFD_CLOEXEC
    reserve = True

    def __init__(self, size: int) -> None:
        size = -(-size // _HUGE) * _HUGE
        descriptor = os.memfd_create("zcipc-lab", self.flags)
        try:
            os.ftruncate(descriptor, size)
            if self.reserve:
                os.posix_fallocate(descriptor, 0, size)
            self.buffer = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)

    def enter(self) -> None:
        """What a process does before it uses the memory."""


class Untouched(Reserved):
    """A page is found, cleared and mapped when somebody first touches it."""

    reserve = False


class Populated(Reserved):
    """Every page is mapped before the first message."""

    def enter(self) -> None:
        try:
            self.buffer.madvise(_MADV_POPULATE_WRITE)
        except OSError as error:
            raise Unavailable(f"this kernel cannot map pages in advance ({error.strerror}); Linux 5.14 can") from None


class TransparentHuge(Populated):
    """Populated, with huge pages where the kernel gives them on request."""

    reserve = False  # reserved without being asked for huge pages, they would be small

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.buffer.madvise(mmap.MADV_HUGEPAGE)
        self.enter()
        if not _is_mapped_huge(mapping_address(self.buffer)):
            setting = _SETTING.read_text(encoding="ascii").strip() if _SETTING.exists() else "missing"
            raise Unavailable(f"the kernel gave no transparent huge pages: {_SETTING} is {setting}")


class Hugetlb(Populated):
    """Populated, from the pool of huge pages that the administrator has set aside."""

    flags = os.MFD_CLOEXEC | os.MFD_HUGETLB

    def __init__(self, size: int) -> None:
        try:
            super().__init__(size)
        except OSError as error:
            raise Unavailable(f"no huge pages in the pool ({error.strerror}): /proc/sys/vm/nr_hugepages sets it") from None


def _is_mapped_huge(address: int) -> bool:
    """Whether all of the mapping at `address` is mapped by huge pages, as the kernel says."""
    here = False
    sizes = {}
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        key, *rest = line.split()
        if not key.endswith(":"):
            start, end = (int(bound, 16) for bound in key.split("-"))
            here = start <= address < end
        elif here:
            sizes[key] = rest[0]
    return sizes["Size:"] == sizes.get("ShmemPmdMapped:")
