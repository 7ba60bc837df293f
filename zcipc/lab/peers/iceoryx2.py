"""iceoryx2: publish and subscribe with loans, as in its own benchmark; to sleep, with an event beside it, as in its example.

A publisher that is too fast waits (`RetryUntilDelivered`, no overflow), because a stream must not lose messages. The payload is
a slice of bytes; the copying face goes through it as its documentation does, by one move into a loaned sample and one out
of a received one. Bytes are reached through an array type made once over the sample's address, the cheapest of the ways that
its Python API offers.
"""

import ctypes
from collections.abc import Callable
from typing import Any

from zcipc.lab.peers import base

_BUFFERED = 16  # messages under way, at most
_BUFFERED_BYTES = 64 << 20


class Iceoryx2(base.Peer):
    """A service each way, in one node a process."""

    title = "iceoryx2"
    modes = (base.POLL, base.BLOCK)
    faces = (base.COPY, base.LOAN)
    distribution = "iceoryx2"

    def open(self, index: int) -> base.CopyingEnd:
        publisher, receive_sample, notify = self._connect(index)
        length, move, copy = self.length, ctypes.memmove, ctypes.string_at
        loan = publisher.loan_slice_uninit

        def send(data: bytes) -> None:
            sample = loan(length)
            move(sample.payload_ptr, data, length)
            sample.assume_init().send()
            notify()

        def receive() -> bytes:
            sample = receive_sample()  # the message is given back when this is gone
            return copy(sample.payload_ptr, length)

        return base.CopyingEnd(send, receive)

    def open_loaned(self, index: int) -> base.LoaningEnd:
        publisher, receive_sample, notify = self._connect(index)
        length, last = self.length, self.length - 1
        at_address = (ctypes.c_uint8 * length).from_address
        loan = publisher.loan_slice_uninit

        def send(stamp: int) -> None:
            sample = loan(length)
            buffer = at_address(sample.payload_ptr)
            buffer[0] = buffer[last] = stamp
            sample.assume_init().send()
            notify()

        def receive() -> int:
            sample = receive_sample()
            buffer = at_address(sample.payload_ptr)
            stamp: int = buffer[0]
            return stamp if stamp == buffer[last] else -1

        return base.LoaningEnd(send, receive)

    def _connect(self, index: int) -> tuple[Any, Callable[[], Any], Callable[[], Any]]:
        """The publisher, how to wait for a sample, and how to wake who waits for one."""
        import iceoryx2 as iox2

        iox2.set_log_level(iox2.LogLevel.Error)
        self._node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
        services = [self._service(iox2, direction) for direction in range(2)]
        buffered = services[0].static_config.subscriber_max_buffer_size
        publisher = (
            services[1 - index]
            .publisher_builder()
            .initial_max_slice_len(self.length)
            .backpressure_strategy(iox2.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )
        subscriber = services[index].subscriber_builder().buffer_size(buffered).create()
        self._ports = [publisher, subscriber]
        if self.mode == base.POLL:
            return publisher, _polling(subscriber.receive), lambda: None
        events = [
            self._node.service_builder(iox2.ServiceName.new(f"{self.token}-{direction}")).event().open_or_create()
            for direction in range(2)
        ]
        listener, notifier = events[index].listener_builder().create(), events[1 - index].notifier_builder().create()
        self._ports += [listener, notifier]
        return publisher, _sleeping(subscriber.receive, listener.blocking_wait), notifier.notify

    def _service(self, iox2: Any, direction: int) -> Any:
        return (
            self._node.service_builder(iox2.ServiceName.new(f"{self.token}-{direction}"))
            .publish_subscribe(iox2.Slice[ctypes.c_uint8])
            .max_publishers(1)
            .max_subscribers(1)
            .history_size(0)
            .subscriber_max_buffer_size(min(max(_BUFFERED_BYTES // self.length, 1), _BUFFERED))
            .enable_safe_overflow(False)
            .open_or_create()
        )

    def close(self) -> None:
        for port in self._ports:
            port.delete()
        del self._ports, self._node  # a node has no other end


def _polling(attempt: Callable[[], Any]) -> Callable[[], Any]:
    def receive() -> Any:
        while (sample := attempt()) is None:
            pass
        return sample

    return receive


def _sleeping(attempt: Callable[[], Any], wait: Callable[[], Any]) -> Callable[[], Any]:
    """Look before sleeping: one event may stand for several samples, and is left over when they were received before it."""

    def receive() -> Any:
        while (sample := attempt()) is None:
            wait()
        return sample

    return receive
