"""On other people's terms: one core, a small /dev/shm, no permission to pin. It adapts, says so and records it."""

import json
import os
import platform
import shutil
import subprocess
import sys
import textwrap

import pytest

from zcipc.lab.harness.launch import unpin
from zcipc.lab.runs.results import ROOT

pytestmark = pytest.mark.slow

PROGRAM = """
import json, os, sys
from pathlib import Path
from zcipc.lab.measurements import experiments
from zcipc.lab.runs import machine
from zcipc.lab.verdicts import table1
from zcipc.lab.runs.results import Run

def main():
    run = Run.open("elsewhere", "smoke", Path(sys.argv[1]))
    rows = experiments.ping_pong(run, sizes=[64], launches=1, transports=["pipe", "zcipc"], runtimes=["compiled"])
    facts = run.provenance("pingpong")["machine"]
    said = [finding.what for finding in machine.doctor(facts) if finding.level in ("bad", "warn")]
    trial = table1._attempt(table1.TRIALS["kernel_bypass"]) if "--cage" in sys.argv else None
    verified = bool(rows["verified"].all())
    print(json.dumps({"rows": len(rows), "verified": verified, "facts": facts, "said": said, "trial": trial}))

if __name__ == "__main__":
    main()
"""

FORBID_PINNING = """
import ctypes, struct
load, equal, answer = 0x20, 0x15, 0x06  # of classic BPF
code = [(load, 0, 0, 0), (equal, 0, 1, NUMBER), (answer, 0, 0, 0x50001), (answer, 0, 0, 0x7FFF0000)]  # EPERM, else allowed
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
header = ctypes.create_string_buffer(struct.pack("HP", len(code), ctypes.addressof(program)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, header, 0, 0) == 0, ctypes.get_errno()
""".replace("NUMBER", {"x86_64": "203", "aarch64": "122"}.get(platform.machine(), "0"))


def outcome(tmp_path, *prefix, before="", arguments=()):
    """What a measurement says that runs behind `prefix`, or after `before` in its own process."""
    script = tmp_path / "measure.py"
    guarded = f"if __name__ == '__main__':\n{textwrap.indent(before, '    ')}\n" if before else ""
    script.write_text(guarded + PROGRAM)
    command = [*prefix, sys.executable, str(script), str(tmp_path), *arguments]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        preexec_fn=unpin,  # tests before may have pinned
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["rows"] == 2
    assert found["verified"]
    return found


def needs(program):
    if shutil.which(program) is None:
        pytest.skip(f"{program} (util-linux) is not installed")


def test_on_one_core(tmp_path):
    needs("taskset")
    core = str(min(os.sched_getaffinity(0)))
    found = outcome(tmp_path, "taskset", "-c", core)
    assert found["facts"]["cores_usable"] == 1
    assert "one core is usable" in found["said"]


def test_with_a_small_shared_memory(tmp_path):
    needs("unshare")
    inside = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
    prefix = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, "sh")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this system gives no user namespaces")
    found = outcome(tmp_path, *prefix)
    assert found["facts"]["shm_free_bytes"] <= 64 << 20
    assert any("/dev/shm" in finding for finding in found["said"])


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="the number of a system call is the architecture's")
def test_without_permission_to_pin(tmp_path):
    """The filter that forbids it also keeps strict seccomp away: that mark of Table 1 is not given, and why is said."""
    found = outcome(tmp_path, before=FORBID_PINNING, arguments=["--cage"])
    assert found["facts"]["can_pin"] is False
    assert any("pin" in finding for finding in found["said"])
    assert not found["trial"]["holds"]
    assert "seccomp" in found["trial"]["missing"]
