"""Eclipse Zenoh: two peer sessions that know each other's address, without discovery.

As in its own ping and pong, publishers block under congestion, and a subscriber's channel is read by `recv`; they do not batch
(`express`). Small messages take its low-latency transport. That cannot carry more than 64 KiB, so those that are worth shared
memory by Zenoh's own measure are written into its shared memory and take the transport that can. Polled, the channel is asked
again and again, giving way to the runtime's threads each time.
"""

import json
import tempfile
import time
from collections.abc import Callable
from os import sched_yield
from pathlib import Path
from typing import Any

from zcipc.lab.peers import base

_SHARED_FROM = 3072  # bytes; Zenoh's default threshold for shared memory
_SHARED_BYTES = 64 << 20  # of the pool for payloads, or eight of them if they need more
_LOOK_S = 0.001


class Zenoh(base.Peer):
    """A publisher and a subscriber at each end, an asynchronous runtime behind them."""

    title = "eclipse-zenoh"
    modes = (base.POLL, base.BLOCK)
    distribution = "eclipse-zenoh"

    @property
    def pinned(self) -> bool:
        return False

    def open(self, index: int) -> base.CopyingEnd:
        import zenoh

        self._session = zenoh.open(self._config(zenoh, index))
        subscriber = self._session.declare_subscriber(f"{self.token}/{index}")
        publisher = self._session.declare_publisher(
            f"{self.token}/{1 - index}", congestion_control=zenoh.CongestionControl.BLOCK, express=True
        )
        while not publisher.matching_status.matching:
            time.sleep(_LOOK_S)
        self._ends = subscriber, publisher
        send = publisher.put if self.length < _SHARED_FROM else self._sharing(zenoh.shm, publisher.put)
        if self.mode == base.BLOCK:
            wait = subscriber.recv
            return base.CopyingEnd(send, lambda: wait().payload.to_bytes())
        attempt = subscriber.try_recv

        def receive() -> Any:
            while (sample := attempt()) is None:
                sched_yield()
            return sample.payload.to_bytes()

        return base.CopyingEnd(send, receive)

    def _sharing(self, shm: Any, put: Callable[[Any], None]) -> Callable[[bytes], None]:
        allocate = shm.ShmProvider.default_backend(max(_SHARED_BYTES, 8 * self.length)).alloc
        length, policy = self.length, shm.BlockOn(shm.GarbageCollect())

        def send(data: bytes) -> None:
            buffer = allocate(length, policy=policy)
            buffer[:] = data
            put(buffer)

        return send

    def _config(self, zenoh: Any, index: int) -> Any:
        address = f"unixsock-stream/{Path(tempfile.gettempdir()) / self.token}"
        config = zenoh.Config()
        for key, value in {
            "mode": "peer",
            "listen/endpoints" if index == 0 else "connect/endpoints": [address],
            "scouting/multicast/enabled": False,
            "transport/unicast/qos/enabled": self.length >= _SHARED_FROM,
            "transport/unicast/lowlatency": self.length < _SHARED_FROM,
            "transport/shared_memory/mode": "init",
        }.items():
            config.insert_json5(key, json.dumps(value))
        if index == 1:
            config.insert_json5("listen/endpoints", "[]")
        return config

    def close(self) -> None:
        del self._ends
        self._session.close()
        for suffix in ("", ".lock"):
            Path(tempfile.gettempdir(), self.token + suffix).unlink(missing_ok=True)
