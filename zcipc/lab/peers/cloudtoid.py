"""cloudtoid-interprocess: byte queues in shared memory, by the bare calls of its native module.

Its blocking `receive` decides by itself how it waits; polled, `try_receive` is asked again and again.
"""

from typing import Any

from zcipc.lab.peers import base

_CAPACITY = 1 << 20  # bytes of messages, as zcipc's; four messages if they need more
_HEADER = 64  # more than a record's


class Cloudtoid(base.Peer):
    """Publisher and subscriber, a queue each way."""

    title = "cloudtoid-interprocess"
    modes = (base.POLL, base.BLOCK)
    distribution = "cloudtoid-interprocess"

    def open(self, index: int) -> base.CopyingEnd:
        from cloudtoid_interprocess import Publisher, Subscriber

        capacity = max(_CAPACITY, 4 * (self.length + _HEADER))
        self._subscriber = Subscriber(f"{self.token}-{index}", capacity)
        self._publisher = Publisher(f"{self.token}-{1 - index}", capacity)
        if self.mode == base.BLOCK:
            return base.CopyingEnd(self._publisher.try_send, self._subscriber.receive)
        attempt = self._subscriber.try_receive

        def receive() -> Any:
            while (message := attempt()) is None:
                pass
            return message

        return base.CopyingEnd(self._publisher.try_send, receive)

    def close(self) -> None:
        self._publisher.close()
        self._subscriber.close()
