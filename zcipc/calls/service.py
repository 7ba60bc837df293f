"""What can be called: the methods of a service, their signatures, and what the markers say of them."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from zcipc.errors import ZcipcError

_Function = TypeVar("_Function", bound=Callable[..., Any])


class SignatureMismatch(ZcipcError, TypeError):
    """Client and server do not agree on a method. The message has both signatures."""


def one_way(function: _Function) -> _Function:
    """Marks a method that nobody waits for: the call returns None once it is sent; an error is logged by the server."""
    function.__zcipc_one_way__ = True  # type: ignore[attr-defined]
    return function


def in_place(function: _Function) -> _Function:
    """Marks a method whose arrays are read where they lie: arguments by the server, results by the client.

    They are read-only, and keep their room in the connection until they are gone.
    """
    function.__zcipc_in_place__ = True  # type: ignore[attr-defined]
    return function


class Filled:
    """See `filled`. `room` has the size and the type, and no memory is ever touched for it."""

    def __init__(self, room: np.ndarray[Any, Any], fill: Callable[[np.ndarray[Any, Any]], object]) -> None:
        self.room = room
        self._fill = fill

    def write(self, buffer: memoryview) -> None:
        self._fill(np.ndarray(self.room.shape, self.room.dtype, buffer))


def filled(shape: int | tuple[int, ...], dtype: Any, fill: Callable[[np.ndarray[Any, Any]], object]) -> Any:
    """What a method returns in place of an array: `fill(array)` writes it straight into the message.

    `array` has the shape and dtype, and is good only during the call of `fill`; an exception there is one of the method.

    Raises:
        TypeError: arrays of `dtype` hold Python objects, which cannot lie in a message.
    """
    if np.dtype(dtype).hasobject:
        raise TypeError(f"an array of {np.dtype(dtype)} holds Python objects, which no message can: return it instead")
    return Filled(np.empty(shape, dtype), fill)


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service."""

    name: str
    signature: str
    one_way: bool
    in_place: bool


def methods(service: Any) -> dict[str, tuple[Method, Callable[..., Any]]]:
    """Everything public that can be called on a class, an object, or a set of functions, by name.

    Raises:
        TypeError: there is nothing.
    """
    if isinstance(service, Mapping):
        found = dict(service)
    elif isinstance(service, Iterable) and not isinstance(service, type):
        found = {function.__name__: function for function in service}
    else:
        kind = service if isinstance(service, type) else type(service)
        found = {name: getattr(service, name) for name, _ in inspect.getmembers(kind, _is_method) if name[0] != "_"}
    if not found:
        raise TypeError(f"{service!r} has no public methods to call")
    return {name: (_method(name, function), function) for name, function in found.items()}


def _is_method(member: object) -> bool:
    return inspect.isfunction(member) or inspect.ismethod(member)


def _method(name: str, function: Callable[..., Any]) -> Method:
    marks = [getattr(function, mark, False) for mark in ("__zcipc_one_way__", "__zcipc_in_place__")]
    text = [word for word, marked in zip(("one_way ", "in_place "), marks, strict=True) if marked]
    return Method(name, "".join(text) + name + _signature(function), *marks)


def _signature(function: Callable[..., Any]) -> str:
    """The parameters and annotations; of a function in a class without `self`."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError:  # names that only a type checker imports: compared as they are written
        signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    return str(signature.replace(parameters=parameters))


Table = tuple[tuple[str, str], ...]
"""The names and signatures of a service, in the order of their numbers."""


def demand_agreement(wanted: Iterable[Method], offered: Table) -> dict[str, int]:
    """The server's number of each method that the client wants.

    Raises:
        SignatureMismatch: one is missing or differs.
    """
    numbers = {name: number for number, (name, _) in enumerate(offered)}
    for method in wanted:
        if method.name not in numbers:
            raise SignatureMismatch(
                f"the server has no method {method.name!r}, which the client declares as {method.signature}; "
                f"it has {', '.join(name for name, _ in offered[1:])}"
            )
        theirs = offered[numbers[method.name]][1]
        if theirs != method.signature:
            raise SignatureMismatch(
                f"client and server do not agree on {method.name!r}: the client declares {method.signature}, "
                f"the server {theirs}; run the same version at both ends"
            )
    return {method.name: numbers[method.name] for method in wanted}
