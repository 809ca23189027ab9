"""Runs of one fetch set: feeds in, new arrays out, with as little in between as there can be.

Enters: a fetch set and values for its feeds. Leaves: arrays that the caller may keep and write to.
What the shapes of the feeds decide (which program, the values of all sizes) is found once and kept
(`Binding`), so a run with shapes that were met before looks at types and shapes alone. Values of
variables are read as one snapshot, which stands until the next write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from graphc.dims import Symbol
from graphc.dtypes import Array
from graphc.errors import TRIMMED, FeedError, departs
from graphc.graph import Node, Tensor
from graphc.ops.follow import elements
from graphc.runtime.compilation import Bound, Compilation, FetchSet
from graphc.runtime.device import Environment, Note, Snapshot
from graphc.runtime.feeds import convert
from graphc.runtime.keeper import Keeper
from graphc.runtime.state import State
from graphc.runtime.variables import Cell, fit, kept

Shapes: TypeAlias = tuple[tuple[int, ...], ...]
Give: TypeAlias = Callable[[Sequence[Array]], Any]

MOST_BINDINGS = 64  # the oldest beyond these are dropped
NO_ENTROPY = np.zeros(2, np.uint64)  # for programs that make no random numbers


class Binding:
    """A program, and what it runs with at certain shapes of the feeds."""

    __slots__ = ("by_shape", "cells", "compilation", "keeper", "quick", "run", "sizes")

    def __init__(self, bound: Bound) -> None:
        self.compilation: Compilation = bound.compilation
        self.run = bound.compilation.program.run
        # a plain dict: without what computes further sizes, and the feeds that this holds
        sizes = bound.sizes
        self.sizes: Mapping[Symbol, int] = sizes if type(sizes) is dict else dict(sizes)
        self.cells: list[Cell] | None = None  # what it writes, once that has been seen to fit
        self.keeper: Keeper | None = None  # which makes runs that write
        self.by_shape = bound.by_shape
        # no write, no random number, no copy: the program's results are the run's
        self.quick = (
            self.by_shape
            and self.compilation.own
            and not self.compilation.entropic
            and not self.compilation.targets
        )


class Prepared:
    """A fetch set over one list of feeds, in the order in which they were made."""

    def __init__(
        self,
        fetch_set: FetchSet,
        tensors: Sequence[Tensor],
        used: Sequence[int],
        state: State,
        key: Any,
    ) -> None:
        self.key = key  # of the fetch set in its session
        self.spellings: list[Any] = []  # keys of the nestings that ask for it
        self.fetch_set = fetch_set
        self.tensors = tuple(tensors)
        self.bindings: dict[Shapes, Binding] = {}
        self.used = used
        self.state = state
        self._writes = bool(fetch_set.graph.updates)
        self._count = len(fetch_set.graph.outputs)
        values = state.values
        self._read = [(v.node, values.cell(v)) for v in fetch_set.variables]
        self._initialized = False
        # of compilations whose updates fit at any sizes
        self._cells: dict[int, tuple[list[Cell], Keeper | None]] = {}
        # whether values decide about sizes: of a gradient, the number of steps of a loop does
        ends = any(node.attrs.get("guarded") for node in fetch_set.graph.nodes)
        self._measured = ends or bool(elements(fetch_set.graph))
        self._written = {v: values.cell(v) for v, _ in fetch_set.graph.updates}  # type: ignore[arg-type]

    def run(
        self, arrays: Sequence[Array], write: bool = True, note: Note | None = None
    ) -> Sequence[Array]:
        """The fetched arrays, for converted feeds in the order of `tensors`."""
        binding = self.bindings.get(shapes := tuple([array.shape for array in arrays]))
        feeds = [arrays[i] for i in self.used]
        if binding is None and self._initialized and not self._measured:
            binding = self._binding(feeds, shapes)
        if write and note is None and binding is not None and binding.keeper is not None:
            return self.run_again(feeds, binding)
        if not (self._writes and write):
            return self._run(feeds, shapes, binding, False, note)
        with self.state.writing():
            return self._run(feeds, shapes, binding, True, note)

    def run_again(self, feeds: Sequence[Array], binding: Binding) -> Sequence[Array]:
        """The same, for those of the feeds that are used, of shapes that were met before."""
        if not self._writes:
            return self._run(feeds, (), binding, False)
        if binding.keeper is not None:
            outputs = binding.keeper.run(feeds, binding.sizes)
            if outputs is not None:
                return outputs
        with self.state.writing():
            return self._run(feeds, (), binding, True)

    def _run(
        self,
        feeds: Sequence[Array],
        shapes: Shapes,
        binding: Binding | None,
        write: bool,
        note: Note | None = None,
    ) -> Sequence[Array]:
        if binding is None:
            binding, environment = self._bind(feeds, shapes)
        else:
            environment = self._environment(binding, write)
        if note is not None:
            environment = Environment(
                environment.sizes, environment.variables, environment.entropy, note
            )
        results = binding.run(feeds, environment)
        count = self._count
        if binding.compilation.own:
            if write:
                self._land(binding, results[count:])
            return results[:count] if binding.compilation.targets else results
        if write:
            fed = {id(array) for array in feeds}  # the caller may still write to these
            results = [np.array(r) if id(r) in fed else r for r in results]
            self._land(binding, results[count:])
        held = (*feeds, *environment.variables.values(), *results[count:])
        owned = {id(array) for array in held}
        return [_own(array, owned) for array in results[:count]]

    def _environment(self, binding: Binding, write: bool) -> Environment:
        """What one more run at known shapes runs with."""
        state = self.state
        environment: Environment | None = state.values.current.get(binding)
        if environment is None:
            with state.lock():
                if write:
                    environment = Environment(binding.sizes, self._snapshot(), NO_ENTROPY)
                else:
                    environment = Environment(binding.sizes, self._kept_snapshot(), NO_ENTROPY)
                    state.values.keep(binding, environment)
        run = next(state.runs)
        if not binding.compilation.entropic:
            return environment
        return Environment(environment.sizes, environment.variables, state.entropy(run))

    def _bind(self, feeds: Sequence[Array], shapes: Shapes) -> tuple[Binding, Environment]:
        """A binding for shapes that were not met before, kept where shapes alone decide."""
        state, fetch_set = self.state, self.fetch_set
        with state.lock():
            state.open()
            if not self._initialized:  # a variable that has a value keeps having one
                state.initialize(fetch_set.variables)
                self._initialized = True
            variables = self._snapshot()
            entropy = state.entropy(next(state.runs))
            binding = self._made(self._compiled(feeds, variables, entropy), shapes)
        return binding, Environment(binding.sizes, variables, entropy)

    def _binding(self, feeds: Sequence[Array], shapes: Shapes) -> Binding:
        """The same, where no value of a variable can matter."""
        with self.state.lock():
            self.state.open()
            return self._made(self._compiled(feeds, {}, NO_ENTROPY), shapes)

    def renewed(self, shapes: Shapes) -> Binding | None:
        """A binding for feeds of these shapes, all of which are used; None: see `run`."""
        if self._measured or not self._initialized:
            return None
        with self.state.lock():
            self.state.open()
            bound = self.fetch_set.known(shapes)
            return None if bound is None else self._made(bound, shapes)

    def _made(self, bound: Bound, shapes: Shapes) -> Binding:
        """A binding, kept where shapes alone decide."""
        binding = Binding(bound)
        landing = self._cells.get(id(binding.compilation))
        if landing is not None:
            binding.cells, binding.keeper = landing
        if binding.by_shape:
            while len(self.bindings) >= MOST_BINDINGS:
                self.bindings.pop(next(iter(self.bindings)))
            self.bindings[shapes] = binding
        return binding

    def _compiled(
        self, feeds: Sequence[Array], variables: Mapping[Node, Array], entropy: Array
    ) -> Bound:
        """What arrays are run with; a compilation made for them is in the report."""
        fetch_set = self.fetch_set
        known = len(fetch_set.compilations)
        bound = fetch_set.bind(feeds, variables, entropy)
        if len(fetch_set.compilations) > known:
            self._measured = self._measured or bool(bound.compilation.elements)
            self.state.report.add(fetch_set, bound.compilation)
        return bound

    def planned(self, arrays: Sequence[Array]) -> Bound:
        """What converted feeds would be run with. Runs only what computes sizes, if anything."""
        state, feeds = self.state, [arrays[i] for i in self.used]
        with state.lock():
            state.open()
            variables: dict[Node, Array] = {}
            if elements(self.fetch_set.graph):
                state.initialize(self.fetch_set.variables)
                variables = self._snapshot()
            return self._compiled(feeds, variables, NO_ENTROPY)

    def _snapshot(self) -> dict[Node, Array]:
        """All values that are read, together. A variable that has a value keeps having one."""
        self.state.open()
        self.state.values.settle()
        return {node: cell.array for node, cell in self._read}  # type: ignore[misc]

    def _kept_snapshot(self) -> Snapshot:
        """The same, for runs to come as well."""
        return Snapshot(self._snapshot())

    def _land(self, binding: Binding, arrays: Sequence[Array]) -> None:
        """Let all updates land together."""
        state, compilation = self.state, binding.compilation
        with state.lock():
            if binding.cells is None:
                for variable, array in zip(compilation.targets, arrays, strict=True):
                    fit(variable, array)
                state.restored.pass_over([v for v in compilation.targets if v not in state.values])
                binding.cells = [self._written[v] for v in compilation.targets]
                if compilation.fits:
                    if binding.by_shape and compilation.own:
                        binding.keeper = self._keeper(binding)
                    self._cells[id(compilation)] = binding.cells, binding.keeper
            if not compilation.own:
                arrays = [kept(array) for array in arrays]
            state.values.replace(binding.cells, arrays)

    def _keeper(self, binding: Binding) -> Keeper | None:
        """What makes the runs to come of a program that has been seen to write what fits."""
        compilation = binding.compilation
        return Keeper.of(
            compilation.program, self.state, dict(self._read), binding.cells or [],
            compilation.entropic,
        )  # fmt: skip


def _own(array: Array, owned: set[int]) -> Array:
    """An array that the caller may write to: nobody else holds it."""
    if array.base is None and array.flags.writeable and id(array) not in owned:
        owned.add(id(array))
        return array
    return array.copy()


class _Spelling:
    """A list of feeds in an order of its own, which may be that of their making or not."""

    def __init__(self, prepared: Prepared, tensors: Sequence[Tensor], give: Give) -> None:
        self._prepared, self._give = prepared, give
        self._count = len(tensors)
        self._order = [tensors.index(tensor) for tensor in prepared.tensors]
        places = range(self._count)
        back = [self._order.index(place) for place in places]
        self._back = None if back == list(places) else back
        self.used = [self._order[place] for place in prepared.used]  # what runs are given
        self.bindings: dict[Shapes, Binding] = {}

    def first(self, given: Sequence[Any]) -> Any:
        """A run with values to convert, or of shapes that were not met before."""
        count, order, prepared = self._count, self._order, self._prepared
        if len(given) != count:
            raise FeedError(f"run: {count} arrays must be given, got {len(given)}")
        pairs = zip(prepared.tensors, order, strict=True)
        arrays = converted = convert([(tensor, given[place]) for tensor, place in pairs])
        if self._back is not None:
            arrays = [converted[place] for place in self._back]
        shapes = tuple([array.shape for array in arrays])
        binding = self.bindings.get(shapes)
        if binding is not None:
            feeds = [arrays[place] for place in self.used]
            return self._give(prepared.run_again(feeds, binding))
        outputs = prepared.run(converted)
        self._keep(shapes, prepared.bindings.get(tuple([array.shape for array in converted])))
        return self._give(outputs)

    def renewed(self, shapes: Shapes) -> Binding | None:
        """What arrays of new shapes are run with, where none is to be converted or looked at."""
        if len(self.used) < self._count:
            return None
        binding = self._prepared.renewed(tuple([shapes[place] for place in self.used]))
        self._keep(shapes, binding)
        return binding

    def _keep(self, shapes: Shapes, binding: Binding | None) -> None:
        if binding is not None:
            if len(self.bindings) >= MOST_BINDINGS:
                self.bindings.clear()
            self.bindings[shapes] = binding


def prepared_call(prepared: Prepared, tensors: Sequence[Tensor], give: Give) -> Callable[..., Any]:
    """A function of values for `tensors`, which are those of `prepared` in an order of their own.

    `give` makes what it returns of the fetched arrays. All that happens in a run of known shapes,
    beside the program's own work, stands in here.
    """
    spelling = _Spelling(prepared, tensors, give)
    count, used, bindings = len(tensors), spelling.used, spelling.bindings
    first, renewed = spelling.first, spelling.renewed
    dtypes = [tensor.dtype.numpy for tensor in tensors]
    plain = used == list(range(count))
    values, runs, run_again = prepared.state.values, prepared.state.runs, prepared.run_again

    def call(*arrays: Any) -> Any:
        try:
            if len(arrays) != count:
                return first(arrays)
            found = []
            for array, dtype in zip(arrays, dtypes):  # as many of each
                if type(array) is not np.ndarray or array.dtype is not dtype:
                    return first(arrays)
                found.append(array.shape)
            shapes = tuple(found)
            binding = bindings.get(shapes)
            if binding is None:
                binding = renewed(shapes)
                if binding is None:
                    return first(arrays)
            feeds = arrays if plain else [arrays[place] for place in used]
            if binding.quick:
                environment = values.current.get(binding)
                if environment is not None:
                    next(runs)
                    return give(binding.run(feeds, environment))
            elif binding.keeper is not None:
                outputs = binding.keeper.run(feeds, binding.sizes)
                if outputs is not None:
                    return give(outputs)
            return give(run_again(feeds, binding))
        except TRIMMED as error:
            if departs(error):
                raise error.with_traceback(None) from None
            raise

    return call
