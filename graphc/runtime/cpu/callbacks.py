"""Host calls inside of loops and branches: native code calls back, once a step.

Enters: the words of a context, in which native code has put the addresses of this step. Leaves: the
results of the op, where the buffers are. An exception ends the run, which then raises it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphc.dims import Symbol
from graphc.dtypes import Array
from graphc.kernel import Buffer
from graphc.plan import Host
from graphc.runtime.cpu.recipe import TABLE_AT, Recipe, dimension_values
from graphc.runtime.cpu.walker import CODE, FAULT
from graphc.runtime.reference.device import apply_oracle

KIND = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


class Callbacks:
    """The host calls inside of one context's loops."""

    def __init__(self, recipe: Recipe, words: Array, values: Any) -> None:
        self._recipe, self._words, self._values = recipe, words, values
        self.sizes: Mapping[Symbol, int] = {}
        self.failure: BaseException | None = None
        self._functions = []
        for number, native in enumerate(recipe.natives):
            if native.control is not None and native.control.host is not None:
                function = KIND(self._function(native.control.host))
                self._functions.append(function)
                address = ctypes.cast(function, ctypes.c_void_p).value
                words[recipe.launched[number][0] + CODE] = address

    def _function(self, host: Host) -> Callable[[int, int, int], None]:
        def call(record: int, begin: int, end: int) -> None:
            try:
                self._call(host)
            except BaseException as error:  # to be raised by whoever runs the program
                self.failure = error
                self._words[FAULT] = 1

        return call

    def _call(self, host: Host) -> None:
        inputs = [self._array(buffer).copy() for buffer in host.inputs]
        with np.errstate(all="ignore"):
            results: Any = apply_oracle(host.node, inputs, self.sizes)
        for buffer, result in zip(host.outputs, results, strict=True):
            self._array(buffer)[...] = result

    def _array(self, buffer: Buffer) -> Array:
        """What a buffer holds in this step."""
        shape = dimension_values(self._recipe.shapes[buffer], self._values)
        dtype = np.dtype(buffer.type.dtype.numpy)
        count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if not count:
            return np.empty(shape, dtype)
        address = int(self._words[TABLE_AT + self._recipe.slots[buffer]])
        memory: Any = (ctypes.c_char * count).from_address(address)
        return np.ndarray(shape, dtype, memory)

    def take_failure(self) -> BaseException | None:
        """What a call has raised, once."""
        found, self.failure = self.failure, None
        return found
