"""What the annotations of the public face need: what an object carries, and what has bytes.

What is not said is `Any`: `Queue` alone means what it means with `multiprocessing`, and `Queue[int]` says more.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Buffer, TypeVar

    Item = TypeVar("Item", default=Any)
    Sent = TypeVar("Sent", contravariant=True, default=Any)
    Received = TypeVar("Received", covariant=True, default=Any)
    BytesLike: TypeAlias = Buffer | np.ndarray[Any, Any]  # before Python 3.12 no type checker knows that an array is one
else:  # `typing` has defaults from Python 3.13 on, and a name for buffers from 3.12 on
    from typing import TypeVar

    Item, Sent, Received = TypeVar("Item"), TypeVar("Sent"), TypeVar("Received")
    BytesLike = bytes | bytearray | memoryview | np.ndarray
