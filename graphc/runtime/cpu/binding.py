"""What a program's contexts share about sizes: one arena's layout; and errors that sizes lead to.

Enters: a recipe, and the sizes of what lies in the arena. Leaves: a `Place` for each of them. As
long as everything fits into its place, a run of other sizes needs no new layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.dtypes import Array
from graphc.errors import DeviceError, GraphcError, ShapeError
from graphc.runtime.cpu.recipe import Recipe, dimension_values
from graphc.runtime.memory import layout

LARGE = 2**24  # bytes of an arena that gets little slack
SLACK, LITTLE_SLACK = 1.5, 1.125  # of an arena that grows for a second time


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where everything in an arena lies, and how large it may be there."""

    capacities: Array
    offsets: Array
    total: int


@dataclass(slots=True, eq=False)
class Arenas:
    """The layouts of one program's arena: the latest, which suits most contexts."""

    recipe: Recipe
    _latest: Places | None = field(default=None)

    def __call__(self, sizes: Array, before: Places | None) -> Places:
        """Places for these sizes; `before` are those that have become too small, if any."""
        latest = self._latest
        if latest is not None and (sizes <= latest.capacities).all():
            return latest
        if before is not None:
            sizes = np.maximum(sizes, before.capacities)
            slack = SLACK if sizes.sum() < LARGE else LITTLE_SLACK
            sizes = -(-np.ceil(sizes * slack).astype(np.int64) // 64) * 64
        found = layout(self.recipe.firsts, self.recipe.lasts, sizes)
        offsets = np.ascontiguousarray(found.offsets, np.int64)
        self._latest = Places(sizes, offsets, found.total)
        return self._latest

    def forget(self, places: Places | None) -> None:
        """The next layout need not hold what this one did."""
        if self._latest is places:
            self._latest = None


def refusal(recipe: Recipe, values: Sequence[int]) -> GraphcError:
    """The error where sizes do not fit, or an extremum of nothing is asked for."""
    for left, right, demand in recipe.demands:
        error = demand.refused(values[left], values[right])
        if error is not None:
            return error
    for i, extents, rule in recipe.needs:
        if values[recipe.counts[i]] > 0 and 0 in dimension_values(extents, values):
            return ShapeError(recipe.natives[i].routine.kernel.failure(rule))
    return ShapeError("run: sizes do not fit")


def out_of_memory(recipe: Recipe, values: Sequence[int], asked: int) -> DeviceError:
    """An error that names the bytes, and the largest buffers with the user's lines."""
    numbered: list[tuple[int, Any]] = [(e.bytes, e.buffer) for e in recipe.entries]
    numbered += [
        (int(number), storage.buffers[0])
        for number, storage in zip(recipe.storage_bytes, recipe.storages, strict=True)
    ]
    largest = sorted(numbered, key=lambda pair: -values[pair[0]])[:3]
    lines = [f"run: out of memory: {asked:,} bytes were asked for; the largest arrays are"]
    for number, buffer in largest:
        where = ", ".join(map(str, recipe.lines(buffer)[:2]))
        made = f", made at {where}" if where else ""
        lines.append(f"  %{buffer.name}: {values[number]:,} bytes{made}")
    return DeviceError("\n".join(lines))
