"""kickmsg: lock-free publish and subscribe over shared memory; in place both ways through its slots.

Each direction is a region with one subscriber. A publisher that is too fast runs over what the subscriber has not received
yet: kickmsg rather loses messages than makes a publisher wait. So a stream goes in bursts that its ring holds. The ring is
small, because a slot is used again only after the ring has gone round, and a small ring stays in the cache. Polled,
`try_receive` is asked again and again; `receive` sleeps on a futex.
"""

from collections.abc import Callable
from typing import Any

from zcipc.lab.peers import base

_BURST = 256  # messages in a subscriber's ring
_SHORTEST_BURST = 4
_BURST_BYTES = 4 << 20
_SPARE_SLOTS = 8  # for messages that are being written or read
_PATIENCE_S = 60.0  # longer than any launch lasts


class Kickmsg(base.Peer):
    """kickmsg's publisher and subscriber."""

    title = "kickmsg"
    modes = (base.POLL, base.BLOCK)
    faces = (base.COPY, base.LOAN)
    distribution = "kickmsg"

    @property
    def burst(self) -> int:
        return min(max(_BURST_BYTES // self.length, _SHORTEST_BURST), _BURST)

    def open(self, index: int) -> base.CopyingEnd:
        publisher, subscriber = self._connect(index)
        return base.CopyingEnd(publisher.send, self._receiver(subscriber.try_receive, subscriber.receive))

    def open_loaned(self, index: int) -> base.LoaningEnd:
        publisher, subscriber = self._connect(index)
        length, allocate = self.length, publisher.allocate
        receive_view = self._receiver(subscriber.try_receive_view, subscriber.receive_view)

        def send(stamp: int) -> None:
            slot = allocate()
            buffer = memoryview(slot)
            buffer[0] = buffer[length - 1] = stamp
            slot.publish(length)

        def receive() -> int:
            with receive_view() as view:
                buffer = memoryview(view)
                stamp = buffer[0]
                return stamp if stamp == buffer[-1] else -1

        return base.LoaningEnd(send, receive)

    def _connect(self, index: int) -> tuple[Any, Any]:
        import kickmsg

        settings = kickmsg.Config()
        settings.max_subscribers = 1
        settings.sub_ring_capacity = self.burst
        settings.pool_size = self.burst + _SPARE_SLOTS
        settings.max_payload_size = self.length
        self._regions = [
            kickmsg.SharedRegion.create_or_open(f"/{self.token}-{direction}", kickmsg.ChannelType.PubSub, settings)
            for direction in range(2)
        ]
        return kickmsg.Publisher(self._regions[1 - index]), kickmsg.Subscriber(self._regions[index])

    def _receiver(self, attempt: Callable[[], Any], wait: Callable[[float], Any]) -> Callable[[], Any]:
        if self.mode == base.BLOCK:
            return lambda: wait(_PATIENCE_S)

        def receive() -> Any:
            while (message := attempt()) is None:
                pass
            return message

        return receive

    def close(self) -> None:
        for region in self._regions:
            region.unlink()
