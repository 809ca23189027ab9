"""A run with everything that a small one does without: host calls, large results, notes, checks.

Enters: a context that is bound, and what is given to the run. Leaves: the results.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.dims import evaluate
from graphc.dtypes import Array
from graphc.errors import ShapeError
from graphc.kernel import Buffer
from graphc.plan import Branch, Host, unmet
from graphc.runtime.accounts import Accounts
from graphc.runtime.cpu.binding import out_of_memory
from graphc.runtime.cpu.context import Context
from graphc.runtime.cpu.parts import Native, touched
from graphc.runtime.cpu.recipe import dimension_values
from graphc.runtime.cpu.walker import BEGIN, END, FAULT, FOUND, INDEX
from graphc.runtime.device import Environment, Note
from graphc.runtime.leases import Leases
from graphc.runtime.memory import byte_count
from graphc.runtime.numerics import check_host, check_kernel, has_nan
from graphc.runtime.reference.device import apply_oracle


def fault(context: Context, number: int) -> BaseException:
    """The error of a launch that found an index out of range; the context can be used again.

    Inside of a loop, that is the launch that it has noted.
    """
    words = context.words
    failure = None if context.callbacks is None else context.callbacks.take_failure()
    if failure is not None:
        words[FAULT] = words[INDEX] = words[FOUND] = 0
        return failure
    if words[FOUND]:
        number, words[FOUND] = int(words[FOUND]) - 1, 0
    native = context.recipe.natives[number]
    routine, control = native.routine, native.control
    kind, index = int(words[FAULT]) - 1, int(words[INDEX])
    words[FAULT] = words[INDEX] = 0
    if control is not None:
        error = unmet(control.demands[index], context.sizes or {})
        assert error is not None, "the side was found not to fit"
        return error
    found = routine.faults[kind]
    size = evaluate(found.size, context.sizes or {})
    return ShapeError(routine.kernel.failure(found.rule.format(index, size)))


class Run:
    """One run of a program, step by step."""

    def __init__(
        self,
        context: Context,
        leases: Leases,
        feeds: Sequence[Array],
        environment: Environment,
        check: str | None,
    ) -> None:
        self.context, self.recipe, self.values = context, context.recipe, context.values
        self.environment, self.check = environment, check
        self._held = context.place(feeds, environment)
        self._feeds = feeds
        self._known: dict[Buffer, Array] | None = None
        self._leased = self._lease(leases)

    def _lease(self, leases: Leases) -> dict[int, Array]:
        """Memory of their own for large results, by entry."""
        found, words = {}, self.context.words
        for number, shape, dtype, count in self.context.large:
            try:
                found[number], address = leases.take(shape, dtype, count)
            except MemoryError:
                raise out_of_memory(self.recipe, self.values, count) from None
            for place in self.recipe.entries[number].places:
                words[place] = address
        return found

    @property
    def _arrays(self) -> dict[Buffer, Array]:
        """The arrays of buffers that lie outside of the context's block."""
        if self._known is None:
            recipe, variables = self.recipe, self.environment.variables
            entropy = [self.environment.entropy] * len(recipe.plan.entropy)
            given = [*self._feeds, *(variables[node] for node in recipe.nodes), *entropy]
            self._known = dict(zip(recipe.given, given, strict=True)) | recipe.constants
            for number, array in self._leased.items():
                self._known[recipe.owner(recipe.entries[number].buffer)] = array
        return self._known

    def value(self, buffer: Buffer) -> Array:
        """What a buffer holds now."""
        found = self._arrays.get(self.recipe.owner(buffer))
        if found is None:
            return self.context.value(buffer)
        shape = dimension_values(self.recipe.shapes[buffer], self.values)
        return found if found.shape == shape else found.reshape(shape)

    # ------------------------------------------------------------------ steps

    def __call__(self) -> list[Array]:
        """Run everything; the results are arrays that nobody else holds."""
        stepwise = self.check is not None or self.environment.note is not None
        for begin, end, host, last in self.recipe.segments:
            if host is not None:
                self._noted_host(host)
                for buffer in last:
                    del self._arrays[buffer]
            elif stepwise:
                self._step_through(begin, end)
            else:
                self._walk(begin, end)
        self.context.words[BEGIN], self.context.words[END] = 0, len(self.recipe.natives)
        return [self._result(*result) for result in self.recipe.results]

    def _result(self, entry: int | None, buffer: Buffer, made: bool) -> Array:
        if entry is None:
            value = self.value(buffer)
            own = made and value.base is None and value.flags.writeable
            return value if own else np.array(value, order="C")
        view = self.context.views[entry]
        return self._leased[entry] if view is None else view.copy()

    def _walk(self, begin: int, end: int) -> None:
        self.context.words[BEGIN], self.context.words[END] = begin, end
        number = self.context.walk(self.context.address)
        if number >= 0:
            raise fault(self.context, number)

    def _step_through(self, begin: int, end: int) -> None:
        """Kernel by kernel; several launches may be one kernel."""
        natives = self.recipe.natives
        while begin < end:
            native = natives[begin]
            kernel, after = native.routine.kernel, native.after
            while after < end and natives[after].routine.kernel is kernel:
                after = natives[after].after
            clean = self.check is not None and not any(map(self._has_nan, _operands(native)))
            start = time.perf_counter()
            self._walk(begin, after)
            seconds = time.perf_counter() - start
            if self.environment.note is not None:
                self._note(self.environment.note, native, seconds)
            if clean:
                self._check(native)
            begin = after

    def _has_nan(self, buffer: Buffer) -> bool:
        return buffer.type.dtype.is_float and has_nan(self.value(buffer))

    def _check(self, native: Native) -> None:
        """Raise where a launch made a NaN; what it read had none."""
        floats = [buffer for buffer in _results(native) if buffer.type.dtype.is_float]
        check_kernel(native.routine.kernel, map(self.value, floats))

    def _note(self, note: Note, native: Native, seconds: float) -> None:
        accounts = Accounts(self.environment.sizes, self._bytes, self.value)
        if native.step is None:
            row = accounts.kernel(native.routine.kernel)
            note(row.what, seconds, row.moved, row.work)
        else:
            row = accounts.outer(native.step)
            note(row.what, seconds, row.moved, row.work, row.times, row.inside)

    def _bytes(self, buffer: Buffer) -> int:
        shape = self.recipe.shapes.get(buffer)
        return 0 if shape is None else byte_count(buffer, dimension_values(shape, self.values))

    # ------------------------------------------------------------------ the host's

    def _noted_host(self, host: Host) -> None:
        note = self.environment.note
        start = time.perf_counter()
        arrays = self._host(host)
        if note is not None:
            seconds = time.perf_counter() - start
            moved = sum(self.value(b).nbytes for b in host.inputs) + sum(a.nbytes for a in arrays)
            note(host.node, seconds, moved)

    def _host(self, host: Host) -> list[Array]:
        """One op by its oracle; its results stay where NumPy put them."""
        inputs = [self.value(buffer) for buffer in host.inputs]
        with np.errstate(all="ignore"):
            results: Any = apply_oracle(host.node, inputs, self.environment.sizes)
        arrays: list[Array] = []
        for buffer, result in zip(host.outputs, results, strict=True):
            array = _own(np.asarray(result), buffer, [*inputs, *arrays])
            self._arrays[buffer] = array
            address = array.ctypes.data
            for place in self.recipe.places[buffer]:
                self.context.words[place] = address
            arrays.append(array)
        if self.check is not None and not any(map(has_nan, inputs)):
            check_host(host, arrays)
        return arrays


def _operands(native: Native) -> Sequence[Buffer]:
    """What a launch reads of what other launches have made."""
    if native.step is None:
        return native.routine.kernel.reads()
    return touched(native)[0]


def _results(native: Native) -> Sequence[Buffer]:
    """What a launch leaves for others."""
    if native.step is None:
        return [store.buffer for store in native.routine.kernel.stores]
    return native.step.results if isinstance(native.step, Branch) else native.step.outer()[1]


def _own(array: Array, buffer: Buffer, others: Sequence[Array]) -> Array:
    """The result of an oracle as the kernels want it: it must not be memory that they reuse."""
    dtype = buffer.type.dtype.numpy
    fits = array.base is None and array.dtype == dtype and array.flags.c_contiguous
    if fits and not any(array is x for x in others):
        return array
    return np.array(array, dtype, order="C")
