"""Rows of a block straight to Samples, column by column, without going through JSON a row.

What is the same from one row to the next is the same object, as a live source gives it: the model knows at once what it
has seen before, and frames are kept for a quarter of an hour. The plan follows the types of Sample. Whatever does not
fit it (an older or newer field, damage) goes by way of JSON and msgspec, which decide as for a single line.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator
from functools import cache
from itertools import repeat
from typing import Any

import msgspec

from qtop.record.columns import Unfit
from qtop.record.tree import MAX_VALUES, Decoder, Node

CACHED = 4096
"""Constant parts that are remembered from block to block."""

_encode = msgspec.json.Encoder().encode


class Typed(Decoder):
    """A Decoder that gives typed rows too; ``seen`` is handed from block to block."""

    def __init__(self, columns: Any, signed_zero: bool, seen: dict[tuple[int, bytes], Any]) -> None:
        super().__init__(columns)
        self.signed_zero = signed_zero
        """There may be both 0.0 and -0.0, which are equal and yet not the same."""
        self._seen = seen

    def typed(self, hint: Any, node: Node, n: int) -> list[Any]:
        """``n`` rows of the annotated type. Unfit or msgspec.ValidationError if they are not of that type."""
        return self._rows(_plan(hint), node, n)

    def _rows(self, plan: _Plan, node: Node, n: int) -> list[Any]:
        self.spend(n)
        kind = type(node)
        if kind is not list and kind is not dict:
            return [node if kind in plan.plain else self._made(plan, node)] * n
        if kind is list:
            values = self.numbers(node, n)
            if type(values[0]) in plan.plain:
                return values
        elif "c" in node:
            return [self._made(plan, node["c"])] * n
        elif "v" in node:
            return self.mixed(node, n, lambda child, m: self._rows(plan, child, m))
        elif "w" in node:
            words = [self._made(plan, word) for word in node["w"]]
            return [words[place] for place in self.places(node["i"], n, len(words))]
        elif "o" in node:
            tag = node["o"].get("type")
            struct = plan.structs.get(tag) if tag is None or type(tag) is str else None
            if struct is not None:
                return self._structs(struct, node, n)
            if plan.values is not None and "p" not in node:
                return self._dicts(plan.values, node, n)
        elif "a" in node and plan.items is not None:
            return self._tuples(plan.items, node, n)
        elif "a" in node and plan.array is not None and "n" not in node:
            return self._arrays(plan.array, node["a"], n)
        elif "f" in node and plan.items is not None:
            lengths = self.places(node["n"], n, MAX_VALUES)
            flat = iter(self._rows(plan.items, node["f"], sum(lengths)))
            return [tuple([next(flat) for _ in range(length)]) for length in lengths]
        return [self._made(plan, value) for value in self.rows(node, n)]

    def _made(self, plan: _Plan, value: Any) -> Any:
        """One value that stands for itself."""
        if type(value) in plan.plain:
            return value
        text = _encode(value)
        key = (id(plan), text)
        made = self._seen.get(key)
        if made is None:
            if len(self._seen) >= CACHED:
                self._seen.clear()
            made = self._seen[key] = plan.decoder.decode(text)
        return made

    def _structs(self, struct: _Struct, node: Node, n: int) -> list[Any]:
        nodes, present = node["o"], node.get("p", {})
        columns = []
        for name, plan, default in struct.fields:
            if name not in nodes:
                columns.append([default()] * n)
            elif name in present:
                there = self.places(present[name], n, 2)
                taker = iter(self._rows(plan, nodes[name], sum(there)))
                columns.append([next(taker) if one else default() for one in there])
            else:
                columns.append(self._rows(plan, nodes[name], n))
        return self._built(struct.cls, columns, n)

    def _arrays(self, struct: _Struct, items: list[Node], n: int) -> list[Any]:
        known = struct.fields[: len(items)]
        columns = [self._rows(plan, item, n) for (_, plan, _), item in zip(known, items, strict=False)]
        columns += [[default()] * n for _, _, default in struct.fields[len(items) :]]
        return self._built(struct.cls, columns, n)

    def _built(self, cls: Any, columns: list[list[Any]], n: int) -> list[Any]:
        if self.signed_zero:
            return list(map(cls, *columns)) if columns else [cls() for _ in range(n)]
        out, last, made = [], None, None
        for row in zip(*columns, strict=True) if columns else repeat((), n):
            if row != last:
                made, last = cls(*row), row
            out.append(made)
        return out

    def _dicts(self, plan: _Plan, node: Node, n: int) -> list[Any]:
        first, moving = {}, {}
        for key, child in node["o"].items():
            if type(child) is float and float in plan.plain:
                first[key] = child
                continue
            column = self._rows(plan, child, n)
            first[key] = column[0]
            if type(child) is list or (type(child) is dict and "c" not in child):
                moving[key] = column
        self.spend(n * len(first))
        out = []
        for row in zip(*moving.values(), strict=True) if moving else repeat((), n):
            made = first.copy()
            made.update(zip(moving, row, strict=True))
            out.append(made)
        return out

    def _tuples(self, plan: _Plan, node: Node, n: int) -> list[Any]:
        items = node["a"]
        if "n" not in node:
            columns = [self._rows(plan, item, n) for item in items]
            return list(zip(*columns, strict=True)) if columns else [()] * n
        lengths = self.places(node["n"], n, MAX_VALUES)
        self.spend(n * len(items))
        takers: list[Iterator[Any]] = [
            iter(self._rows(plan, item, sum(length > at for length in lengths))) for at, item in enumerate(items)
        ]
        if max(lengths) > len(takers):
            raise Unfit("a list is longer than its items")
        return [tuple([next(taker) for taker in takers[:length]]) for length in lengths]


class _Plan:
    """How the forms of a node become values of one annotated type, unions included."""

    def __init__(self, hint: Any) -> None:
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(hint)
        self.plain: set[type] = set()
        """Types of JSON values that are taken as they are."""
        self.structs: dict[str | None, _Struct] = {}
        """By tag; None for the only one without."""
        self.array: _Struct | None = None
        self.items: _Plan | None = None
        self.values: _Plan | None = None
        union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        for one in typing.get_args(hint) if union else (hint,):
            self._learn(one)

    def _learn(self, hint: Any) -> None:
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if hint in (int, float, str, bool):
            self.plain.add(hint)
        elif origin is tuple:
            self.items = _plan(arguments[0])
        elif origin is dict:
            self.values = _plan(arguments[1])
        elif isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            struct = _struct(hint)
            if struct.cls.__struct_config__.array_like:
                self.array = struct
            else:
                self.structs[struct.cls.__struct_config__.tag] = struct  # type: ignore[index]  # tags here are text


class _Struct:
    """A class with its fields in order: name, plan, and what makes the default."""

    def __init__(self, cls: type[msgspec.Struct]) -> None:
        self.cls = cls
        hints = typing.get_type_hints(cls)
        self.fields = [(one.name, _plan(hints[one.name]), _default(one)) for one in msgspec.structs.fields(cls)]


def _default(field: msgspec.structs.FieldInfo) -> Callable[[], Any]:
    if field.default is not msgspec.NODEFAULT:
        return lambda: field.default
    factory: Callable[[], Any] = _missing if field.default_factory is msgspec.NODEFAULT else field.default_factory
    return factory


def _missing() -> Any:
    raise Unfit("a field is missing that must be there")


@cache
def _plan(hint: Any) -> _Plan:
    return _Plan(hint)


@cache
def _struct(cls: type[msgspec.Struct]) -> _Struct:
    return _Struct(cls)
