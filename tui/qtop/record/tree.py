"""JSON values of the same kind in a row, as one tree with a column of numbers at each place that changes, and back.

A node of the tree is itself JSON; ``n`` rows are known from where it stands:

- a number, a text, true, false, null: the same in all rows; ``{"c": value}`` likewise for an object or a list
- ``[i]``: the numbers of column ``i``, one a row
- ``{"o": {key: node}}``: objects with these keys in this order; ``{"o": …, "p": {key: node}}``: the keys in ``p`` only
  in the rows where its node is 1, their own nodes have as many rows
- ``{"a": [node]}``: lists of as many items; ``{"a": …, "n": node}``: of as many as ``n`` says, an item's node has as
  many rows as there are lists that long
- ``{"f": node, "n": node}``: lists of ``n`` numbers or texts, the items of all rows one after another
- ``{"w": [value], "i": node}``: one of a few values, by its number
- ``{"v": [node], "i": node}``: of several kinds: each row takes the next of the node with that number
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from qtop.record.columns import Numbers, Packed, Unfit, pack

Node = Any
"""JSON, as above."""
MAX_VALUES = 1 << 22
"""Values in one block at most, repeats included: more would fill the memory."""


class Encoder:
    """Turns columns of JSON values into nodes; ``columns`` collects the columns of numbers."""

    def __init__(self) -> None:
        self.columns: list[Packed] = []

    def node(self, values: Sequence[Any]) -> Node:
        """The node of these rows, at least one. Unfit if they cannot be stored."""
        kinds = set(map(type, values))
        if len(kinds) == 1:
            kind = next(iter(kinds))
            if kind is float or kind is int:
                return self._numbers(values)
            if kind is dict:
                return self._variants(values, [row.get("type") for row in values], self._objects)
            if kind is list:
                return self._lists(values)
            return values[0] if values.count(values[0]) == len(values) else self._words(values)
        if kinds <= {str, bool, type(None)}:
            return self._words(values)
        return self._variants(values, [_KINDS[type(value)] for value in values], self.node)

    def _numbers(self, values: Sequence[Any]) -> Node:
        first = values[0]
        if values.count(first) == len(values) and (first or _same_zeros(values)):
            return first
        self.columns.append(pack(values))
        return [len(self.columns) - 1]

    def _words(self, values: Sequence[Any]) -> Node:
        known: dict[tuple[type, Any], int] = {}
        places = [known.setdefault((type(value), value), len(known)) for value in values]
        return {"w": [value for _, value in known], "i": self._numbers(places)}

    def _variants(self, values: Sequence[Any], keys: list[Any], encode: Any) -> Node:
        if keys.count(keys[0]) == len(keys):
            return encode(values)
        order = {key: at for at, key in enumerate(dict.fromkeys(keys))}
        parts: list[list[Any]] = [[] for _ in order]
        for key, value in zip(keys, values, strict=True):
            parts[order[key]].append(value)
        places = self._numbers([order[key] for key in keys])
        return {"v": [self.node(part) for part in parts], "i": places}

    def _objects(self, rows: Sequence[dict[str, Any]]) -> Node:
        keys = list(rows[0])
        if all(list(row) == keys for row in rows):
            return _folded(
                {
                    "o": {
                        key: self.node(column)
                        for key, column in zip(keys, zip(*[row.values() for row in rows], strict=True), strict=True)
                    }
                }
            )
        merged = _merged(rows)
        if merged is None:  # in no common order
            return self._variants(rows, [tuple(row) for row in rows], self._objects)
        nodes, present = {}, {}
        for key in merged:
            column = [row[key] for row in rows if key in row]
            nodes[key] = self.node(column)
            if len(column) < len(rows):
                present[key] = self._numbers([int(key in row) for row in rows])
        return {"o": nodes, "p": present}

    def _lists(self, rows: Sequence[list[Any]]) -> Node:
        lengths = list(map(len, rows))
        if lengths.count(lengths[0]) == len(lengths):
            return _folded({"a": [self.node(column) for column in zip(*rows, strict=True)]})
        flat = [item for row in rows for item in row]
        if len(set(map(type, flat))) == 1 and type(flat[0]) in (int, float, str):
            return {"f": self.node(flat), "n": self._numbers(lengths)}
        columns = ([row[at] for row in rows if len(row) > at] for at in range(max(lengths)))
        return {"a": [self.node(column) for column in columns], "n": self._numbers(lengths)}


_KINDS = {dict: "o", list: "a", int: "i", float: "f", str: "w", bool: "w", type(None): "w"}


def _same_zeros(values: Sequence[Any]) -> bool:
    return type(values[0]) is int or len({math.copysign(1.0, value) for value in values}) == 1


def _merged(rows: Sequence[dict[str, Any]]) -> list[str] | None:
    """All keys in an order that each row keeps; None if there is none."""
    lengths = list(map(len, rows))
    merged = list(rows[lengths.index(max(lengths))])
    for row in {tuple(row): None for row in rows}:
        at = 0
        known = set(merged)
        for key in row:
            if key not in known:
                merged.insert(at, key)
                at += 1
                continue
            try:
                at = merged.index(key, at) + 1
            except ValueError:
                return None
    return merged


def _folded(node: dict[str, Any]) -> Node:
    """The node, or its value if it is the same in all rows."""
    children = node["o"].values() if "o" in node else node["a"]
    for child in children:
        if type(child) is list or (type(child) is dict and "c" not in child):
            return node
    plain = [child["c"] if type(child) is dict else child for child in children]
    return {"c": dict(zip(node["o"], plain, strict=True)) if "o" in node else plain}


class Decoder:
    """Turns nodes back into rows of JSON values. Unfit if the tree is damaged or would not fit into memory."""

    def __init__(self, columns: Sequence[Numbers]) -> None:
        self.columns = columns
        self._left = MAX_VALUES

    def rows(self, node: Node, n: int) -> list[Any]:
        """The values of ``n`` rows; constant ones are the same object."""
        self.spend(n)
        if type(node) is list:
            return self.numbers(node, n)
        if type(node) is not dict:
            return [node] * n
        if "c" in node:
            return [node["c"]] * n
        if "o" in node:
            return self._objects(node, n)
        if "w" in node:
            words = node["w"]
            return [words[place] for place in self.places(node["i"], n, len(words))]
        if "v" in node:
            return self.mixed(node, n, self.rows)
        lengths = self.places(node["n"], n, MAX_VALUES) if "n" in node else None
        if "f" in node and lengths is not None:
            return sliced(self.rows(node["f"], sum(lengths)), lengths)
        items = node["a"]
        if lengths is None:
            columns = [self.rows(item, n) for item in items]
            return list(map(list, zip(*columns, strict=True))) if columns else [[] for _ in range(n)]
        self.spend(n * len(items))
        longer = [self.rows(item, sum(length > at for length in lengths)) for at, item in enumerate(items)]
        takers = [iter(column) for column in longer]
        return [[next(taker) for taker in takers[:length]] for length in lengths]

    def _objects(self, node: Node, n: int) -> list[Any]:
        nodes, present = node["o"], node.get("p", {})
        if not present:
            columns = [self.rows(child, n) for child in nodes.values()]
            return [dict(zip(nodes, row, strict=True)) for row in zip(*columns, strict=True)] if nodes else [{}] * n
        self.spend(n * len(nodes))
        there = {key: self.places(child, n, 2) for key, child in present.items()}
        takers = {key: iter(self.rows(child, sum(there[key]) if key in there else n)) for key, child in nodes.items()}
        always = [1] * n
        flags = [there.get(key, always) for key in nodes]
        return [
            {key: next(taker) for (key, taker), flag in zip(takers.items(), row, strict=True) if flag}
            for row in zip(*flags, strict=True)
        ]

    def mixed(self, node: Node, n: int, rows: Any) -> list[Any]:
        """Rows of several kinds, those of a kind as ``rows`` gives them."""
        kinds = node["v"]
        places = self.places(node["i"], n, len(kinds))
        self.spend(n * len(kinds))
        takers = [iter(rows(kind, places.count(at))) for at, kind in enumerate(kinds)]
        return [next(takers[place]) for place in places]

    def numbers(self, node: Node, n: int) -> Numbers:
        """The numbers of a column."""
        (place,) = node
        values: Numbers = self.columns[place]
        if len(values) != n or type(place) is not int or place < 0:
            raise Unfit("a column is not as long as it should be")
        return values

    def places(self, node: Node, n: int, end: int) -> list[int]:
        """Integers from 0 to below ``end``, one a row."""
        values = self.numbers(node, n) if type(node) is list else [node] * n
        if not all(type(value) is int and 0 <= value < end for value in values):
            raise Unfit("a place is out of range")
        return values  # type: ignore[return-value]  # all are int, as has just been seen

    def spend(self, values: int) -> None:
        """Count what is made; Unfit when it is too much."""
        self._left -= values
        if self._left < 0:
            raise Unfit("more values than a block may hold")


def sliced(flat: list[Any], lengths: list[int]) -> list[list[Any]]:
    """Consecutive slices of these lengths."""
    out, at = [], 0
    for length in lengths:
        out.append(flat[at : at + length])
        at += length
    return out
