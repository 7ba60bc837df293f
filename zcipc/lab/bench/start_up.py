"""A new process: what `import zcipc` takes beside `import numba`, how soon the first message has passed, what is compiled.

Each is a new interpreter of its own, and one before it has filled the caches, of bytecode and of compiled code.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from zcipc.lab.bench.scenario import Effort, Measured, Scenario, Series, own

_IMPORT = """
import json, time
start = time.monotonic_ns()
import {module}
print(json.dumps({{"import": time.monotonic_ns() - start}}))
"""

_FIRST_MESSAGE = """
import json, time
import zcipc
start = time.monotonic_ns()
ours, theirs = zcipc.Pipe()
ours.send_bytes(b"first")
assert theirs.recv_bytes() == b"first"
print(json.dumps({"first_message": time.monotonic_ns() - start}))
"""

# What a new process uses of the library. Numba tells of each compilation; what comes out of the cache is none.
_USE = """
import json
from numba.core import event
compiled = event.RecordingListener()
event.register("numba:compile", compiled)
import numpy as np
import zcipc
ours, theirs = zcipc.Pipe(waiting=zcipc.Waiting.BLOCK)
for message in (b"bytes", "object", np.arange(5)):
    ours.send(message)
    theirs.recv()
with ours.loan(8) as buffer:
    buffer[0] = 1
with theirs.borrow() as buffer:
    assert buffer[0] == 1
ours.send_bytes(b"bytes")
assert theirs.recv_bytes() == b"bytes"
assert not theirs.poll(0.001)
ours.close()
theirs.close()
print(json.dumps({"compiled": len({id(record.data["dispatcher"]) for _, record in compiled.buffer})}))
"""


def _import(module: str) -> list[Measured]:
    return [Measured(0, "import", "ns", _said(_IMPORT.format(module=module))["import"])]


def _first_message() -> list[Measured]:
    return [Measured(0, "first_message", "ns", _said(_FIRST_MESSAGE)["first_message"])]


def _compilations() -> list[Measured]:
    return [Measured(0, "compiled_again", "1", _said(_USE)["compiled"])]


def _said(program: str) -> dict[str, int]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(2):  # the second finds all caches warm
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    said: dict[str, int] = json.loads(done.stdout)
    return said


def _series(_effort: Effort, _peers: bool) -> Sequence[Series]:
    return [
        own("zcipc", "python", "import", _import, "zcipc"),
        own("numba", "python", "import", _import, "numba"),
        own("zcipc", "python", "first_message", _first_message),
        own("zcipc", "python", "second_process", _compilations),
    ]


SCENARIO = Scenario("start_up", "import, first message and compilations of a new process", _series)
