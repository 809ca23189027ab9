"""Which tensors are in memory when a run takes most of it: what an error of lacking it lists.

Enters: a recipe and its values at the sizes of a run. Leaves: `Live`s.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.kernel import Buffer
from graphc.runtime.opencl.memory import Live
from graphc.runtime.opencl.recipe import Recipe

LINES = 2  # of a tensor that several made


def live(recipe: Recipe, values: Sequence[int]) -> list[Live]:
    """What is given, results, and the intermediates of the step that needs most."""
    inner = [storage for storage in recipe.storages if not storage.kept]
    change = np.zeros(max((s.last for s in inner), default=0) + 2, object)
    for storage in inner:
        size = values[recipe.bytes[storage.buffers[0]]]
        change[storage.first] += size
        change[storage.last + 1] -= size
    worst = int(np.cumsum(change).argmax())
    there = [s.buffers[0] for s in recipe.storages if s.kept or s.first <= worst <= s.last]
    found = _given(recipe) | {b: _made(recipe.lines.get(b, ())) for b in there}
    return [Live(b.name, values[recipe.bytes[b]], origin) for b, origin in found.items()]


def _given(recipe: Recipe) -> dict[Buffer, str]:
    found = dict.fromkeys((*recipe.plan.inputs, *recipe.plan.entropy), "fed")
    found |= {buffer: _made((node.where,)) for node, buffer in recipe.plan.variables}
    return found | dict.fromkeys(recipe.constants, "a constant")


def _made(lines: Sequence[object]) -> str:
    where = [str(line) for line in lines if line is not None][:LINES]
    return f"made at {', '.join(where)}" if where else "made on the way"
