"""Loops and branches as Python runs them: what `scan`, `while_loop` and `ifelse` mean.

`Plain` stands for the module `graphc` over NumPy's arrays, and notes how each loop and branch went.
`Unrolled` stands for it over graphc's tensors, and goes the same way, without a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import graphc as g


class _Until:
    def __init__(self, condition: Any) -> None:
        self.condition = condition


class _Python:
    """The control flow that both share."""

    until = _Until

    def __init__(self, notes: list[Any]) -> None:
        self.notes = notes

    def decide(self, condition: Any) -> bool:
        """Whether a condition holds."""
        raise NotImplementedError

    def stacked(self, rows: Sequence[Any], empty: Callable[[], Any]) -> Any:
        """Rows on one another; where there are none, `empty` gives one that does not count."""
        raise NotImplementedError

    def rows(self, x: Any) -> int:
        """The size of the first axis."""
        raise NotImplementedError

    def zero(self, x: Any) -> Any:
        """A row of x, of zeros."""
        raise NotImplementedError

    def count(self, steps: Any) -> int:
        """A number of steps."""
        raise NotImplementedError

    def scan(
        self, fn: Any, sequences: Any, outputs: Any, n_steps: Any = None,
        go_backwards: bool = False, checkpoint: Any = None,
    ) -> list[Any]:  # fmt: skip
        """Theano's."""
        walked = [s if isinstance(s, dict) else {"input": s, "taps": [0]} for s in sequences]
        spans = [(min(0, *s["taps"]), max(0, *s["taps"])) for s in walked]
        rows = [self.rows(s["input"]) for s in walked]
        lengths = [max(0, n - b + a) for n, (a, b) in zip(rows, spans, strict=True)]
        length = min(lengths) if n_steps is None else self.count(n_steps)
        if n_steps is not None and min([length, *lengths]) < length:
            raise ValueError("too few rows")
        given = [o if isinstance(o, dict) or o is None else {"initial": o, "taps": [-1]}
                 for o in outputs]  # fmt: skip
        past = [[] if o is None else self.past(o) for o in given]
        stacks: list[list[Any]] = [[] for _ in given]

        def step(t: int, zero: bool = False) -> Any:
            arguments = []
            for s, n, (first, last) in zip(walked, rows, spans, strict=True):
                for tap in s["taps"]:
                    row = n - 1 - last + tap - t if go_backwards else t + tap - first
                    arguments.append(self.zero(s["input"]) if zero else s["input"][row])
            for o, values in zip(given, past, strict=True):
                arguments += [] if o is None else [values[tap] for tap in o["taps"]]
            result = fn(*arguments)
            return result if isinstance(result, tuple) else (result, _Until(None))

        for t in range(length):
            results, end = step(t)
            for values, stack, result in zip(past, stacks, results, strict=True):
                values.append(result)
                stack.append(result)
            if end.condition is not None and self.decide(end.condition):
                break
        kept = [self.stacked(stack, lambda k=k: step(0, True)[0][k])  # type: ignore[misc]
                for k, stack in enumerate(stacks)]  # fmt: skip
        return kept

    def past(self, output: Any) -> list[Any]:
        """The values of a state before the first step, the oldest first."""
        if output["taps"] == [-1]:
            return [output["initial"]]
        return [output["initial"][row] for row in range(-min(output["taps"]))]

    def while_loop(self, cond: Any, body: Any, values: Any, max_steps: Any = None) -> list[Any]:
        """TensorFlow's."""
        count, values = 0, [self.number(value) for value in values]
        while (max_steps is None or count < max_steps) and self.decide(cond(*values)):
            values = body(*values)
            count += 1
        return list(values)

    def number(self, value: Any) -> Any:
        """A Python number as what it stands for."""
        raise NotImplementedError

    def ifelse(self, condition: Any, then: Any, otherwise: Any) -> Any:
        """Lazy."""
        return then() if self.decide(condition) else otherwise()


class Plain(_Python):
    """Over NumPy's arrays."""

    def decide(self, condition: Any) -> bool:
        self.notes.append(bool(condition))
        return bool(condition)

    def stacked(self, rows: Sequence[Any], empty: Callable[[], Any]) -> Any:
        if rows:
            return np.stack(rows)
        row = np.asarray(empty())
        self.notes.append((row.shape, row.dtype))
        return np.zeros((0, *row.shape), row.dtype)

    def rows(self, x: Any) -> int:
        self.notes.append(len(x))
        return len(x)

    def zero(self, x: Any) -> Any:
        return np.zeros(x.shape[1:], x.dtype)

    def count(self, steps: Any) -> int:
        self.notes.append(int(steps))
        return int(steps)

    def number(self, value: Any) -> Any:
        return np.asarray(value)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def cast(self, x: Any, dtype: str) -> Any:
        """As graphc's."""
        return np.asarray(x).astype(dtype)

    def shape(self, x: Any) -> Any:
        """As graphc's."""
        return np.shape(x)


class Unrolled(_Python):
    """Over graphc's tensors, the way that `notes` say."""

    def __init__(self, notes: list[Any]) -> None:
        super().__init__(list(reversed(notes)))

    def decide(self, condition: Any) -> bool:
        return bool(self.notes.pop())

    def stacked(self, rows: Sequence[Any], empty: Callable[[], Any]) -> Any:
        if rows:
            return g.stack(list(rows))
        empty()
        shape, dtype = self.notes.pop()
        return g.zeros((0, *shape), str(dtype))

    def rows(self, x: Any) -> int:
        return int(self.notes.pop())

    def zero(self, x: Any) -> Any:
        return g.zeros(g.shape(x)[1:], x.dtype)

    def count(self, steps: Any) -> int:
        return int(self.notes.pop())

    def number(self, value: Any) -> Any:
        return g.constant(value) if isinstance(value, int) else value

    def __getattr__(self, name: str) -> Any:
        return getattr(g, name)
