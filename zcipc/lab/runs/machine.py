"""The machine under the measurements: what it is, and what on it will disturb them.

`describe` reads facts, from below roots that tests may replace; `doctor` judges facts and reads nothing.
"""

import os
import platform
import resource
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from zcipc.native.membarrier import GLOBAL_EXPEDITED, NUMBERS, QUERY, membarrier

Level = Literal["ok", "note", "warn", "bad"]

_CAP_SYS_NICE = 23  # the bit of /proc/self/status: CapEff
_MIB = 1 << 20


@dataclass(frozen=True)
class Roots:
    """Where the kernel shows itself."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    shm: Path = Path("/dev/shm")
    top: Path = Path("/")


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing: how bad, what it is, why it matters, what to do (empty: nothing)."""

    level: Level
    what: str
    why: str = ""
    remedy: str = ""


def describe(roots: Roots | None = None) -> dict[str, Any]:
    """The facts, as JSON-ready values with units in their names; None where the machine does not tell.

    No host name, user or address is among them: they are committed with the reference run.
    """
    roots = roots or Roots()
    usable = sorted(os.sched_getaffinity(0))
    return {
        "cpu": _cpuinfo(roots, "model name") or platform.processor() or None,
        "architecture": platform.machine(),
        "cores_online": os.cpu_count(),
        "cores_usable": len(usable),
        "cores_isolated": _read(roots.sys / "devices/system/cpu/isolated"),
        "threads_per_core": _threads_per_core(roots),
        "sockets": _sockets(roots),
        "caches_bytes": _caches(roots),
        "cache_line_bytes": _cache_line(roots),
        "governor": _read(roots.sys / "devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "turbo": _turbo(roots),
        "hypervisor": _hypervisor(roots),
        "container": _container(roots),
        "clocksource": _read(roots.sys / "devices/system/clocksource/clocksource0/current_clocksource"),
        "transparent_hugepages": _chosen(_read(roots.sys / "kernel/mm/transparent_hugepage/enabled")),
        "memory_bytes": _meminfo(roots, "MemTotal"),
        "swap_used_bytes": _swap_used(roots),
        "shm_bytes": _shm(roots)[0],
        "shm_free_bytes": _shm(roots)[1],
        "cgroup_cpus": _cgroup_cpus(roots),
        "cgroup_memory_bytes": _cgroup_memory(roots),
        "load_1min": _load(roots),
        "membarrier": _has_membarrier(),
        "can_pin": _can_pin(),
        "can_realtime": _can_realtime(roots),
        "system": _system(roots),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "numba": _version("numba"),
        "llvmlite": _version("llvmlite"),
    }


def doctor(facts: Mapping[str, Any] | None = None) -> list[Finding]:
    """What on this machine, or in `facts`, disturbs a measurement or limits the library; the worst first."""
    facts = describe() if facts is None else facts
    findings = [finding for check in _CHECKS for finding in check(facts)]
    return sorted(findings, key=lambda finding: ("bad", "warn", "note", "ok").index(finding.level))


def _check_platform(facts: Mapping[str, Any]) -> Iterator[Finding]:
    if facts["architecture"] in NUMBERS:
        yield Finding("ok", f"{facts['architecture']}, kernel {facts['kernel']}")
    else:
        yield Finding(
            "bad",
            f"the processor is {facts['architecture']}",
            "the lock-free ring is written for x86_64 and aarch64",
            "use one of these",
        )
    version = tuple(int(part) for part in facts["python"].split(".")[:2])
    if facts["implementation"] == "CPython" and (3, 11) <= version <= (3, 13):
        yield Finding("ok", f"CPython {facts['python']}, numba {facts['numba']}")
    else:
        yield Finding(
            "warn",
            f"{facts['implementation']} {facts['python']}",
            "zcipc declares CPython 3.11 to 3.13 only",
            "make venv PYTHON=python3.12",
        )
    if not facts["gil"]:
        yield Finding("note", "Python runs without its global lock", "the reference numbers were taken with it")


def _check_cores(facts: Mapping[str, Any]) -> Iterator[Finding]:
    usable, online = facts["cores_usable"], facts["cores_online"]
    if usable < 2:
        yield Finding(
            "bad",
            "one core is usable",
            "two spinning processes then take turns by the scheduler's tick; every wait has to sleep",
            "give this process two cores (taskset, docker --cpuset-cpus)",
        )
    elif usable == 2:
        yield Finding(
            "warn",
            "two cores are usable, and the two processes measured fill them",
            "everything else that runs, this program included, interrupts a measurement",
            "close other programs; read medians, not tails",
        )
    else:
        yield Finding("ok", f"{usable} of {online} cores are usable")
    if (facts["threads_per_core"] or 1) > 1:
        yield Finding(
            "note",
            f"{facts['threads_per_core']} hardware threads share a core",
            "two processes on one core share its caches: hand-over is quicker, computing slower",
            "the experiments choose separate cores where they can",
        )
    if (facts["sockets"] or 1) > 1:
        yield Finding(
            "note",
            f"{facts['sockets']} sockets",
            "a cache line travels several times longer between them",
            "the experiments choose cores of one socket where they can",
        )
    if not facts["can_pin"]:
        yield Finding(
            "warn",
            "processes cannot be pinned to cores",
            "the scheduler may move them in the middle of a measurement",
            "allow sched_setaffinity (seccomp profile of the container)",
        )


def _check_frequency(facts: Mapping[str, Any]) -> Iterator[Finding]:
    governor = facts["governor"]
    if governor is None:
        yield Finding("note", "the frequency governor cannot be read", "clock speed may change in a run unnoticed")
    elif governor == "performance":
        yield Finding("ok", "the frequency governor is 'performance'")
    else:
        yield Finding(
            "warn",
            f"the frequency governor is {governor!r}",
            "the clock rises and falls with the load, and times with it",
            "sudo cpupower frequency-set --governor performance",
        )
    if facts["turbo"]:
        yield Finding(
            "note",
            "turbo is on",
            "the clock depends on temperature and on what the other cores do",
            "switch it off to compare runs that lie far apart in time",
        )


def _check_neighbours(facts: Mapping[str, Any]) -> Iterator[Finding]:
    if facts["hypervisor"]:
        yield Finding(
            "warn",
            f"a virtual machine ({facts['hypervisor']})",
            "the host may take a core away at any moment, and a wake-up costs several times as much",
            "compare ratios within one run, not times between runs",
        )
    if facts["container"]:
        yield Finding(
            "note",
            f"a container ({facts['container']})",
            "its limits are listed here; the processes outside it are not",
        )
    load, usable = facts["load_1min"], facts["cores_usable"]
    if load is not None and load > 0.5:
        yield Finding(
            "bad" if load >= usable else "warn",
            f"the load average is {load:.2f} on {usable} usable cores",
            "other programs compete for the cores and the caches",
            "wait until they are done, or stop them",
        )
    else:
        yield Finding("ok", "the machine is idle")
    quota = facts["cgroup_cpus"]
    if quota is not None and quota < usable:
        yield Finding(
            "bad" if quota < 2 else "warn",
            f"a cgroup grants {quota:g} cores' worth of time",
            "spinning uses the quota up, and the kernel then stops both processes for tens of milliseconds",
            "raise the limit (docker --cpus) to the number of usable cores",
        )


def _check_memory(facts: Mapping[str, Any]) -> Iterator[Finding]:
    free = facts["shm_free_bytes"]
    if free is None:
        yield Finding("bad", "there is no /dev/shm", "the library keeps its messages there", "mount a tmpfs there")
    elif free < 64 * _MIB:
        yield Finding(
            "bad",
            f"/dev/shm has {free // _MIB} MiB free",
            "each connection reserves its whole capacity there",
            "zcipc clean; in a container, --shm-size=256m",
        )
    elif free < 256 * _MIB:
        yield Finding(
            "warn",
            f"/dev/shm has {free // _MIB} MiB free",
            "the experiments fit, a connection for messages of many MiB does not",
            "in a container, --shm-size=256m",
        )
    else:
        yield Finding("ok", f"/dev/shm has {free // _MIB:,} MiB free")
    limit = facts["cgroup_memory_bytes"]
    if limit is not None and limit < 1024 * _MIB:
        yield Finding(
            "warn",
            f"a cgroup limits memory to {limit // _MIB} MiB",
            "shared memory counts towards it; beyond it, processes are killed",
            "allow 1 GiB",
        )
    if (facts["swap_used_bytes"] or 0) > 16 * _MIB:
        yield Finding(
            "note",
            f"{facts['swap_used_bytes'] // _MIB} MiB are swapped out",
            "a page that has to be read back takes milliseconds",
            "free memory before a measurement",
        )
    if facts["transparent_hugepages"] == "always":
        yield Finding("note", "transparent huge pages are 'always' on", "the kernel compacts memory in the background")


def _check_kernel(facts: Mapping[str, Any]) -> Iterator[Finding]:
    clock = facts["clocksource"]
    if clock in ("tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page"):
        yield Finding("ok", f"the clock source is {clock!r}, read without a system call")
    elif clock is not None:
        yield Finding(
            "bad",
            f"the clock source is {clock!r}",
            "reading the time is a system call of about a microsecond, more than what is measured",
            "boot with clocksource=tsc if the processor's counter is stable",
        )
    if facts["membarrier"]:
        yield Finding("ok", "membarrier: senders need no fence")
    else:
        yield Finding(
            "note",
            "the kernel offers no membarrier",
            "the library falls back to a full fence for each message",
            "Linux 4.16 or later, and a seccomp profile that allows the call",
        )
    if not facts["can_realtime"]:
        yield Finding(
            "note",
            "no permission for SCHED_FIFO",
            "ordinary scheduling adds to the tail of every distribution",
            "ulimit -r 1, or the capability CAP_SYS_NICE; medians do not need it",
        )


_CHECKS = (_check_cores, _check_memory, _check_neighbours, _check_frequency, _check_kernel, _check_platform)


def _read(path: Path) -> str | None:
    """The contents of a small file, stripped; None when it is missing, unreadable or empty."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _chosen(text: str | None) -> str | None:
    """The bracketed word of `always [madvise] never`."""
    return text.partition("[")[2].partition("]")[0] or None if text else None


def _cpuinfo(roots: Roots, key: str) -> str | None:
    for line in (_read(roots.proc / "cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip() or None
    return None


def _cores(roots: Roots) -> list[Path]:
    return sorted((roots.sys / "devices/system/cpu").glob("cpu[0-9]*"))


def _threads_per_core(roots: Roots) -> int | None:
    siblings = _read(roots.sys / "devices/system/cpu/cpu0/topology/thread_siblings_list")
    return _count(siblings) if siblings else None


def _count(cpu_list: str) -> int:
    """How many cores a list such as `0-1,8` names."""
    ends = (part.partition("-") for part in cpu_list.split(","))
    return sum(int(last or first) - int(first) + 1 for first, _, last in ends)


def _sockets(roots: Roots) -> int | None:
    packages = {_read(core / "topology/physical_package_id") for core in _cores(roots)} - {None}
    return len(packages) or None


def _caches(roots: Roots) -> dict[str, int]:
    """`{"L1d": bytes, ...}` as the first core sees them."""
    caches = {}
    for cache in sorted((roots.sys / "devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_read(cache / name) for name in ("level", "type", "size"))
        if level and kind and size and size.endswith("K"):
            suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
            caches[f"L{level}{suffix}"] = int(size[:-1]) * 1024
    return caches


def _cache_line(roots: Roots) -> int | None:
    size = _read(roots.sys / "devices/system/cpu/cpu0/cache/index0/coherency_line_size")
    return int(size) if size else None


def _turbo(roots: Roots) -> bool | None:
    cores = roots.sys / "devices/system/cpu"
    if disabled := _read(cores / "intel_pstate/no_turbo"):
        return disabled == "0"
    if boost := _read(cores / "cpufreq/boost"):
        return boost == "1"
    return None


def _hypervisor(roots: Roots) -> str | None:
    """The hypervisor's name, or "unknown" when only the processor's flag gives it away."""
    if kind := _read(roots.sys / "hypervisor/type"):
        return kind
    if "hypervisor" in (_cpuinfo(roots, "flags") or "").split():
        return _read(roots.sys / "class/dmi/id/sys_vendor") or "unknown"
    return None


def _container(roots: Roots) -> str | None:
    if (roots.top / ".dockerenv").exists():
        return "docker"
    if (roots.top / "run/.containerenv").exists():
        return "podman"
    groups = _read(roots.proc / "1/cgroup") or ""
    return next((name for name in ("kubepods", "docker", "lxc") if name in groups), None)


def _meminfo(roots: Roots, key: str) -> int | None:
    for line in (_read(roots.proc / "meminfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    return None


def _swap_used(roots: Roots) -> int | None:
    total, free = _meminfo(roots, "SwapTotal"), _meminfo(roots, "SwapFree")
    return None if total is None or free is None else total - free


def _shm(roots: Roots) -> tuple[int | None, int | None]:
    try:
        usage = shutil.disk_usage(roots.shm)
    except OSError:
        return None, None
    return usage.total, usage.free


def _cgroups(roots: Roots, controller: str) -> Iterator[Path]:
    """The directories that may limit this process, innermost first, of cgroup versions 1 and 2.

    A container often sees its own group at the root, not at the path the kernel names: parents count too.
    """
    for line in (_read(roots.proc / "self/cgroup") or "").splitlines():
        _, names, path = line.split(":", 2)
        group = Path(path.lstrip("/"))
        if names in ("", controller) or controller in names.split(","):
            base = roots.sys / "fs/cgroup" / names
            yield from (base / level for level in (group, *group.parents))


def _cgroup_cpus(roots: Roots) -> float | None:
    """The tightest limit on processor time, in cores."""
    limits = []
    for group in _cgroups(roots, "cpu"):
        quota, _, period = (_read(group / "cpu.max") or "").partition(" ")
        quota = quota or _read(group / "cpu.cfs_quota_us") or ""
        period = period or _read(group / "cpu.cfs_period_us") or ""
        if quota.isdigit() and period.isdigit():
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def _cgroup_memory(roots: Roots) -> int | None:
    """The tightest limit on memory, in bytes; None when it is above what the machine has."""
    limits = [
        int(text)
        for group in _cgroups(roots, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := _read(group / name)) and text.isdigit()
    ]
    tightest = min(limits, default=None)
    return None if tightest is None or tightest >= (_meminfo(roots, "MemTotal") or 0) else tightest


def _load(roots: Roots) -> float | None:
    text = _read(roots.proc / "loadavg")
    return float(text.split()[0]) if text else None


def _has_membarrier() -> bool:
    """Whether the kernel has the barrier that spares senders their fence."""
    commands = membarrier(QUERY)  # a set of bits, or -1
    return commands >= 0 and bool(commands & GLOBAL_EXPEDITED)


def _can_pin() -> bool:
    try:
        os.sched_setaffinity(0, os.sched_getaffinity(0))
    except OSError:
        return False
    return True


def _can_realtime(roots: Roots) -> bool:
    for line in (_read(roots.proc / "self/status") or "").splitlines():
        if line.startswith("CapEff:") and int(line.split()[1], 16) >> _CAP_SYS_NICE & 1:
            return True
    return resource.getrlimit(resource.RLIMIT_RTPRIO)[0] != 0


def _system(roots: Roots) -> str | None:
    for line in (_read(roots.top / "etc/os-release") or "").splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip('"')
    return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
