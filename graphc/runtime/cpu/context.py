"""What one run at a time owns: addresses, records, and the memory of everything in between.

A context is bound to the sizes of a run, and stays bound: a run of the same sizes only puts its
feeds into place. Concurrent runs of one program have different contexts.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.dims import Symbol
from graphc.dtypes import Array
from graphc.errors import CompileError
from graphc.kernel import Buffer
from graphc.runtime.cpu.binder import FITS, GROWS, HEAVY, OVERFLOW, REFUSED, WORD, binder
from graphc.runtime.cpu.binding import Arenas, Places, out_of_memory, refusal
from graphc.runtime.cpu.callbacks import Callbacks
from graphc.runtime.cpu.recipe import TABLE_AT, Recipe, dimension_values
from graphc.runtime.cpu.walker import walker
from graphc.runtime.device import Environment, Snapshot
from graphc.runtime.memory import ALIGN, Peak, aligned, lower_bound

LARGE = 2**22  # bytes
GENEROUS = 2**22  # bytes of a block that is not worth giving back
WASTE = 4  # times what is used: a block of that is too large
PATIENCE = 32  # runs with a block that is too large


_FOUND = operator.itemgetter(
    *[WORD[name] for name in ("length", "total", "arena", "used", "results", "parallel", "light")]
)


def nothing() -> None:
    """What a reference to no array gives."""


class Context:
    """The words and the memory of a run.

    `feeds`, `variables` and `entropy` are lists of views to copy small arrays to; None where the
    address of the array itself becomes a word. `seen` are the variables' arrays of the last run:
    what is still the same is in its place already. If all are small, `snapshot` is the last run's
    mapping of them. Both are weak: an idle context keeps no old value alive. `copies` give the
    results of a run that is `quick`: one whose feeds and results are all small.
    """

    def __init__(self, recipe: Recipe, arenas: Arenas) -> None:
        self.recipe, self.arenas = recipe, arenas
        self.words = np.zeros(len(recipe.words) + 7, np.int64)
        first = -(self.words.ctypes.data // 8) % 8  # a whole number of lines before the table
        self.words = self.words[first : first + len(recipe.words)]
        self.address = int(self.words.ctypes.data)
        self.words[:] = recipe.words
        self.words[recipe.own] += self.address
        values, starts = recipe.dimensions.template.copy(), np.zeros(len(recipe.order), np.int64)
        form = recipe.form.copy()
        for name, array in (("values", values), ("words", self.words), ("starts", starts)):
            form[WORD[name]] = array.ctypes.data
        self.values: memoryview[int] = memoryview(values)  # type: ignore[arg-type]
        self.starts: memoryview[int] = memoryview(starts)  # type: ignore[arg-type]
        self.form: memoryview[int] = memoryview(form)  # type: ignore[arg-type]
        self._form_address = int(form.ctypes.data)
        self.callbacks = Callbacks(recipe, self.words, self.values) if recipe.calls_back else None
        self._bind, (release, hold, _) = binder(), walker()
        self._walks = release, hold
        self._sizes_at = recipe.dimensions.places
        self.places: Places | None = None
        self.key: tuple[int, ...] | None = None
        self.sizes: Mapping[Symbol, int] | None = None  # of the last run
        self.block, self.base = np.zeros(0, np.uint8), 0
        self.spare = 0  # runs after which memory that they have not used is given back
        self.views: list[Array | None] = []
        self.feeds: list[Array | None] = []
        self.variables: list[Array | None] = []
        self.entropy: list[Array] = []
        self.copies: list[Callable[[], Array]] = []
        self.large: list[tuple[int, tuple[int, ...], Any, int]] = []
        self.seen: list[Callable[[], Any]] = []
        self.snapshot: Callable[[], Any] = nothing
        self.leaving: Callable[[], Any] = nothing  # called before the block goes
        self.holds = self.quick = self.all_small = False
        self.nodes = recipe.nodes
        self.outputs = 0
        self.light = True

    def bind(self, key: tuple[int, ...]) -> bool:
        """Make everything ready for these sizes; False where a run of them is not wanted here."""
        self.key = self.sizes = None
        values, moved = self.values, False
        try:
            for place, value in zip(self._sizes_at, key):
                values[place] = value
            status = self._bind(self._form_address)
        except ValueError:  # no machine's integer
            status = OVERFLOW
        while status != FITS:
            if status == HEAVY:
                return False
            moved = self._settle(status, key) or moved
            status = self._bind(self._form_address)
            self.form[WORD["tapes"]] = len(self.recipe.dimensions.rows)
        self._view(moved)
        length, total, arena, used, results, parallel, light = _FOUND(self.form)
        self.parallel = parallel != 0
        self.walk = self._walks[light]
        self.outputs = 5 * results // 4  # bytes; leases round up
        # What the block would have to be for this run is no more than what is used.
        if length > GENEROUS and WASTE * (total - arena + used) < length:
            self.spare = self.spare or PATIENCE
        else:
            self.spare = 0
        self.key = key
        return True

    def _settle(self, status: int, key: tuple[int, ...]) -> bool:
        """Do what the native function could not; whether the block has moved."""
        recipe, form = self.recipe, self.form
        if status == OVERFLOW:
            exact = recipe.dimensions.exact(key).tolist()
            for place, value in enumerate(exact):
                self.values[place] = value
            form[WORD["tapes"]] = 0
        elif status == REFUSED:
            raise refusal(recipe, self.values)
        elif status == GROWS:
            sizes = [self.values[number] for number in recipe.storage_bytes.tolist()]
            self.place_within(self.arenas(aligned(np.array(sizes, np.int64)), self.places))
        else:
            self._allocate(form[WORD["total"]])
            return True
        return False

    def place_within(self, places: Places) -> None:
        """Take over a layout of the arena."""
        form, self.places = self.form, places
        form[WORD["capacities"]] = places.capacities.ctypes.data
        form[WORD["offsets"]] = places.offsets.ctypes.data
        form[WORD["arena"]] = places.total

    def _allocate(self, total: int) -> None:
        before = len(self.block)
        self.drop()
        wanted = max(total, min(before + before // 8, 2 * total)) if before else total
        try:
            raw = np.empty(wanted + ALIGN, np.uint8)
        except MemoryError:
            raise out_of_memory(self.recipe, self.values, wanted) from None
        start = -raw.ctypes.data % ALIGN
        self.block = raw[start : start + wanted]
        self.base = int(self.block.ctypes.data)
        self.form[WORD["base"]], self.form[WORD["length"]] = self.base, wanted
        self.light = wanted <= LARGE

    def drop(self) -> None:
        """Give the block back; the next run binds anew."""
        self.leaving()
        self.views, self.feeds, self.variables = [], [], []  # they hold the block
        self.entropy, self.copies = [], []
        self.block, self.base, self.key, self.sizes = np.zeros(0, np.uint8), 0, None, None
        self.form[WORD["base"]] = self.form[WORD["length"]] = 0

    def settle_down(self) -> None:
        """One more run has used a small part of the block; give it back after many."""
        self.spare -= 1
        if not self.spare:
            self.arenas.forget(self.places)
            self.drop()
            self.places = None
            for name in ("capacities", "offsets", "arena"):
                self.form[WORD[name]] = int(self.recipe.form[WORD[name]])

    def measure(self, key: tuple[int, ...]) -> Peak:
        """The memory that a run of these sizes needs in a fresh process; nothing is allocated."""
        recipe, values, form = self.recipe, self.values, self.form
        for place, value in zip(recipe.dimensions.places, key, strict=True):
            values[place] = value
        while (status := self._bind(self._form_address)) in (OVERFLOW, REFUSED, GROWS):
            self._settle(status, key)
        made = [values[number] for _, _, number in recipe.made_lives]
        firsts, lasts = ([life[i] for life in recipe.made_lives] for i in range(2))
        host = lower_bound(firsts, lasts, aligned(np.array(made, np.int64)))
        copied = aligned(np.array([values[number] for number in recipe.copied], np.int64))
        results = form[WORD["results"]] + int(copied.sum())
        return Peak(form[WORD["arena"]], form[WORD["workspace"]], results, host)

    # ------------------------------------------------------------------ views

    def _view(self, moved: bool) -> None:
        """Views of all entries; if the block has not moved, new ones of those of open sizes."""
        recipe, values, starts, block = self.recipe, self.values, self.starts, self.block
        views = self.views
        sort = moved or not views or len(views) != len(recipe.entries)
        if sort:
            views = self.views = [None] * len(recipe.entries)
        if sort or recipe.open_variables:
            self.seen, self.snapshot = [nothing] * len(recipe.nodes), nothing
        feeds, given, new_array = len(recipe.plan.inputs), len(recipe.given), np.ndarray
        for row, number, shape, dtype in recipe.ordered if sort else recipe.open:
            start, before = starts[row], views[number]
            if start < 0:
                sort = sort or before is not None or number >= given
                views[number] = None
                continue
            views[number] = view = new_array(shape(values), dtype, block, start)
            if sort or before is None or feeds <= number < given:
                sort = True
            elif number < feeds:
                self.feeds[number] = view
            elif self.all_small:
                self.copies[recipe.result_of[number]] = view.copy
            else:
                sort = True
        if sort:
            self._sort(views)

    def _sort(self, views: list[Array | None]) -> None:
        """Put the views where a run looks for them."""
        recipe = self.recipe
        feeds, given = len(recipe.plan.inputs), len(recipe.given)
        nodes = feeds + len(recipe.nodes)
        self.feeds, self.variables = views[:feeds], views[feeds:nodes]
        self.entropy = [view for view in views[nodes:given] if view is not None]
        self.holds = all(view is not None for view in self.variables)
        results = [None if entry is None else views[entry] for entry, _, _ in recipe.results]
        self.copies = [view.copy for view in results if view is not None]
        self.all_small = len(self.copies) == len(results)
        self.quick = self.all_small and all(slot is not None for slot in self.feeds)
        self.large = [
            (i, tuple([self.values[d] for d in entry.shape]), entry.dtype, self.values[entry.bytes])
            for i, entry in enumerate(recipe.entries[given:], given)
            if views[i] is None
        ]

    # ------------------------------------------------------------------ a run

    def place_small(self, feeds: Sequence[Array], environment: Environment) -> list[Array] | None:
        """Put all that is given into place, where every feed is small; gives what must be kept."""
        for number, slot in enumerate(self.feeds):
            slot[...] = feeds[number]  # type: ignore[index]  # none is None
        if environment.variables is not self.snapshot() or self.entropy:
            return self.place_rest(environment)
        return None

    def place_rest(self, environment: Environment) -> list[Array]:
        """Put variables that are new, and the entropy, into place."""
        held = []
        variables, seen = environment.variables, self.seen
        for number, node in enumerate(self.nodes):
            array = variables[node]
            if seen[number]() is not array:
                held.append(self.place_variable(number, array))
        for slot in self.entropy:
            slot[...] = environment.entropy
        if self.holds and type(variables) is Snapshot:
            self.snapshot = weakref.ref(variables)
        return held

    def place(self, feeds: Sequence[Array], environment: Environment) -> list[Array]:
        """Put all that is given into place; gives what must live as long as the run."""
        held = []
        for number, (slot, array) in enumerate(zip(self.feeds, feeds, strict=True)):
            if slot is None:
                held.append(self._place_large(number, array))
            else:
                slot[...] = array
        return held + self.place_rest(environment)

    def _place_large(self, number: int, array: Array) -> Array:
        """Point the words of an entry at an array; gives what must live as long as the run."""
        if not array.flags.c_contiguous:
            array = np.ascontiguousarray(array)
        address = array.ctypes.data
        for place in self.recipe.entries[number].places:
            self.words[place] = address
        return array

    def place_variable(self, number: int, array: Array) -> Array:
        """Take over a variable's new value; gives what must live as long as the run."""
        slot, kept = self.variables[number], array
        if slot is not None:
            slot[...] = array
        else:
            kept = self._place_large(len(self.feeds) + number, array)
        self.seen[number] = weakref.ref(array) if kept is array else nothing
        return kept

    def value(self, buffer: Buffer) -> Array:
        """What a buffer in the context's block holds, as a view."""
        place = TABLE_AT + self.recipe.slots[buffer]
        offset = int(self.words[place]) - self.base
        shape = dimension_values(self.recipe.shapes[buffer], self.values)
        if offset < 0 or offset > len(self.block):
            raise CompileError(f"%{buffer.name} has no place in the block of its context")
        return np.ndarray(shape, buffer.type.dtype.numpy, self.block, offset=offset)


def peak(recipe: Recipe, key: tuple[int, ...]) -> Peak:
    """The memory that a run of these sizes needs in a fresh process."""
    return Context(recipe, Arenas(recipe)).measure(key)
