"""Facts are read from where the kernel shows them; findings are drawn from facts alone."""

import json

import pytest

from zcipc.lab.runs import machine
from zcipc.lab.runs.machine import Roots, describe, doctor


@pytest.fixture
def roots(tmp_path):
    return Roots(tmp_path / "proc", tmp_path / "sys", tmp_path, tmp_path)


def write(base, **files):
    """`write(tmp, **{"a/b": "text"})` makes tmp/a/b."""
    for name, text in files.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(text)


@pytest.fixture
def good():
    """A machine with nothing to say against it."""
    return {
        "architecture": "x86_64",
        "cores_online": 8,
        "cores_usable": 8,
        "threads_per_core": 1,
        "sockets": 1,
        "governor": "performance",
        "turbo": False,
        "hypervisor": None,
        "container": None,
        "clocksource": "tsc",
        "transparent_hugepages": "madvise",
        "swap_used_bytes": 0,
        "shm_free_bytes": 8 << 30,
        "cgroup_cpus": None,
        "cgroup_memory_bytes": None,
        "load_1min": 0.1,
        "membarrier": True,
        "can_pin": True,
        "can_realtime": True,
        "kernel": "6.1",
        "python": "3.12.1",
        "implementation": "CPython",
        "gil": True,
        "numba": "0.61",
    }


def test_this_machine_can_be_described_and_judged():
    facts = describe()
    json.dumps(facts)
    assert facts["cores_usable"] >= 1
    assert facts["memory_bytes"] > 1 << 20
    assert all(finding.level in ("ok", "note", "warn", "bad") for finding in doctor(facts))


def test_a_machine_that_shows_nothing_is_described_all_the_same(roots):
    facts = describe(roots)
    silent = (
        "cpu",
        "governor",
        "turbo",
        "hypervisor",
        "container",
        "clocksource",
        "load_1min",
        "cgroup_cpus",
    )
    assert {key: facts[key] for key in silent if key != "cpu"} == dict.fromkeys(silent[1:])
    assert facts["caches_bytes"] == {}
    doctor(facts)


def test_facts_are_read_from_where_they_are(roots):
    write(
        roots.proc,
        **{
            "cpuinfo": "processor : 0\nmodel name\t: Example 9000\nflags\t\t: fpu hypervisor sse\n",
            "meminfo": "MemTotal: 2048 kB\nSwapTotal: 100 kB\nSwapFree: 60 kB\n",
            "loadavg": "1.25 1 1 1/1 1",
            "1/cgroup": "0::/kubepods/pod1",
            "self/status": "CapEff:\t0000000000800000\n",
        },
    )
    write(
        roots.sys,
        **{
            "devices/system/cpu/cpu0/topology/thread_siblings_list": "0-1,4",
            "devices/system/cpu/cpu0/topology/physical_package_id": "0",
            "devices/system/cpu/cpu1/topology/physical_package_id": "1",
            "devices/system/cpu/cpu0/cache/index0/level": "1",
            "devices/system/cpu/cpu0/cache/index0/type": "Data",
            "devices/system/cpu/cpu0/cache/index0/size": "48K",
            "devices/system/cpu/cpu0/cache/index0/coherency_line_size": "64",
            "devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
            "devices/system/cpu/intel_pstate/no_turbo": "0",
            "devices/system/clocksource/clocksource0/current_clocksource": "hpet",
            "kernel/mm/transparent_hugepage/enabled": "[always] madvise never",
            "class/dmi/id/sys_vendor": "QEMU",
        },
    )
    facts = describe(roots)
    expected = {
        "cpu": "Example 9000",
        "memory_bytes": 2 << 20,
        "swap_used_bytes": 40 << 10,
        "load_1min": 1.25,
        "container": "kubepods",
        "can_realtime": True,
        "threads_per_core": 3,
        "sockets": 2,
        "caches_bytes": {"L1d": 48 << 10},
        "cache_line_bytes": 64,
        "governor": "powersave",
        "turbo": True,
        "clocksource": "hpet",
        "transparent_hugepages": "always",
        "hypervisor": "QEMU",
    }
    assert {key: facts[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),
        ("0::/a/b", {"cpu.max": "50000 100000"}, 0.5),
        (
            "4:cpu,cpuacct:/a",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "-1", "cpu,cpuacct/a/cpu.cfs_period_us": "1"},
            None,
        ),
        ("4:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "300000", "cpu/a/cpu.cfs_period_us": "100000"}, 3.0),
    ],
)
def test_the_tightest_processor_quota_counts(roots, groups, files, cores):
    write(roots.proc, **{"self/cgroup": groups})
    write(roots.sys / "fs/cgroup", **files)
    assert describe(roots)["cgroup_cpus"] == cores


def test_a_memory_limit_above_what_the_machine_has_is_none(roots):
    write(roots.proc, **{"self/cgroup": "0::/a", "meminfo": "MemTotal: 1024 kB"})
    write(roots.sys / "fs/cgroup", **{"a/memory.max": "9223372036854771712"})
    assert describe(roots)["cgroup_memory_bytes"] is None
    write(roots.sys / "fs/cgroup", **{"a/memory.max": "4096"})
    assert describe(roots)["cgroup_memory_bytes"] == 4096


def test_a_good_machine_gets_no_complaint(good):
    assert {finding.level for finding in doctor(good)} == {"ok"}


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"cores_usable": 1}, "bad", "one core"),
        ({"cores_usable": 2}, "warn", "two cores"),
        ({"threads_per_core": 2}, "note", "hardware threads"),
        ({"sockets": 2}, "note", "sockets"),
        ({"can_pin": False}, "warn", "pinned"),
        ({"governor": "powersave"}, "warn", "powersave"),
        ({"governor": None}, "note", "governor cannot be read"),
        ({"turbo": True}, "note", "turbo"),
        ({"hypervisor": "KVM"}, "warn", "KVM"),
        ({"container": "docker"}, "note", "docker"),
        ({"load_1min": 0.9}, "warn", "load average"),
        ({"load_1min": 9.0}, "bad", "load average"),
        ({"cgroup_cpus": 1.0}, "bad", "1 cores' worth"),
        ({"cgroup_cpus": 4.0}, "warn", "4 cores' worth"),
        ({"shm_free_bytes": None}, "bad", "no /dev/shm"),
        ({"shm_free_bytes": 1 << 20}, "bad", "1 MiB free"),
        ({"cgroup_memory_bytes": 256 << 20}, "warn", "256 MiB"),
        ({"swap_used_bytes": 1 << 30}, "note", "swapped out"),
        ({"transparent_hugepages": "always"}, "note", "huge pages"),
        ({"clocksource": "hpet"}, "bad", "hpet"),
        ({"membarrier": False}, "note", "membarrier"),
        ({"can_realtime": False}, "note", "SCHED_FIFO"),
        ({"architecture": "riscv64"}, "bad", "riscv64"),
        ({"python": "3.14.0"}, "warn", "3.14"),
        ({"gil": False}, "note", "global lock"),
    ],
)
def test_each_fault_is_found_and_explained(good, change, level, words):
    worst = doctor(good | change)[0]
    assert worst.level == level
    assert words in worst.what
    assert worst.why


def test_the_same_facts_give_the_same_findings_without_reading(good, monkeypatch):
    monkeypatch.setattr(machine, "_read", lambda _: pytest.fail("the doctor reads nothing"))
    assert doctor(good) == doctor(good)
