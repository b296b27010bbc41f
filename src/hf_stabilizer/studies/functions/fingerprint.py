"""Is this still the same function? Its source, and that of what it calls in its own module, hashed.

    build ── tokenize ── MAX_LENGTH = 64        functions, classes and plain values of one module,
      └── Rows                                  as far as `build` reaches them by name

Comments and empty lines do not count, nor does what the module holds beside, such as the call that
starts the study. What is imported from elsewhere is not looked at.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

# Any in this module: whatever a function may refer to.
_PLAIN = (str, bytes, int, float, complex, bool, type(None))


def fingerprint(function: Callable[..., Any]) -> str | None:
    """Returns twelve characters that change with the source; None where there is none to read.

    Example:
        >>> fingerprint(fingerprint) == fingerprint(functools.partial(fingerprint))
        True
        >>> fingerprint(len) is None
        True
    """
    texts = sorted(set(_texts(function, set())))
    if not texts:
        return None
    return hashlib.sha256("\n\n".join(texts).encode()).hexdigest()[:12]


def innermost(function: Callable[..., Any]) -> Any:
    """Returns the function inside partial calls and decorators, the class of a callable object."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    function = getattr(function, "__func__", function)
    is_object = not isinstance(function, FunctionType | type) and not inspect.isbuiltin(function)
    return type(function) if is_object else function


def _texts(thing: Any, seen: set[int]) -> Iterator[str]:
    """The source of a function or class and of all that it reaches, and plain values by name."""
    if isinstance(thing, functools.partial):
        yield from _values({f"{n}": value for n, value in enumerate(thing.args)} | thing.keywords)
    thing = innermost(thing)
    if id(thing) in seen:
        return
    seen.add(id(thing))
    text = _source(thing)
    if text is not None:
        yield text
    reached = {name: value for f in _functions(thing) for name, value in _reached(f)}
    yield from _values(reached)
    for value in reached.values():
        if getattr(value, "__module__", None) == thing.__module__ and callable(value):
            yield from _texts(value, seen)


def _source(thing: Any) -> str | None:
    if getattr(thing, "__name__", "") == "<lambda>":  # its line holds the call around it, too
        return "\n".join(f"{c.co_code.hex()} {c.co_names}" for c in _codes(thing.__code__))
    try:
        lines = inspect.getsource(thing).splitlines()
    except (OSError, TypeError):  # built in, or typed at a prompt
        return None
    kept = (line.rstrip() for line in lines)
    return "\n".join(line for line in kept if line and not line.lstrip().startswith("#"))


def _functions(thing: Any) -> list[FunctionType]:
    if isinstance(thing, FunctionType):
        return [thing]
    members = vars(thing).values() if isinstance(thing, type) else ()
    plain = (getattr(member, "__func__", member) for member in members)
    return [member for member in plain if isinstance(member, FunctionType)]


def _reached(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function names of its module's own, and of the functions around it."""
    for code in _codes(function.__code__):
        for name in code.co_names:
            if name in function.__globals__ and not name.startswith("__"):
                yield name, function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not yet set
            continue


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function, and of the functions and comprehensions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _values(named: dict[str, Any]) -> Iterator[str]:
    for name, value in named.items():
        if _is_plain(value):
            yield f"{name} = {value!r}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(one) for one in value)
    if isinstance(value, dict):
        return all(_is_plain(one) for item in value.items() for one in item)
    return type(value) in _PLAIN
