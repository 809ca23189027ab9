"""What kernels did, for profiles: bytes and operations; in a loop, those of all steps together.

Enters: a run that has just made a step of the plan. Leaves: `Noted`s. A loop that is one native
call, or one launch, has no times of what is inside. How many steps it made is known, and what a
kernel does in each; of an inner loop whose length data decides, the most that it may do, or one
step where there is no most; of a branch, the side that does more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphc.control import ENDLESS
from graphc.costs import operations
from graphc.dims import Symbol, evaluate
from graphc.dtypes import Array
from graphc.kernel import Buffer, Kernel
from graphc.plan import Branch, Call, Host, Loop, Step
from graphc.runtime.device import Noted


class Accounts:
    """Bytes and operations of the steps of one run."""

    def __init__(
        self,
        sizes: Mapping[Symbol, int],
        bytes_of: Callable[[Buffer], int],
        value: Callable[[Buffer], Array],
    ) -> None:
        self._sizes, self._bytes, self._value = sizes, bytes_of, value

    def kernel(self, kernel: Kernel, times: int = 1) -> Noted:
        """What a kernel did."""
        touched = dict.fromkeys([*kernel.reads(), *(store.buffer for store in kernel.stores)])
        work = evaluate(operations(kernel), self._sizes)
        return Noted(kernel, None, times * sum(map(self._bytes, touched)), times * work, times)

    def outer(self, step: Loop | Branch) -> Noted:
        """What a loop or a branch did that stands in no other."""
        if isinstance(step, Branch):
            return self._branch(step, 1)
        if step.count is None:
            return self._loop(step, evaluate(step.length, self._sizes))
        return self._loop(step, int(self._value(step.count)))

    def _of(self, step: Step, times: int) -> Noted:
        if isinstance(step, Call):
            return self.kernel(step.kernel, times)
        if isinstance(step, Host):
            moved = sum(map(self._bytes, (*step.inputs, *step.outputs)))
            return Noted(step.node, None, times * moved, 0, times)
        if isinstance(step, Branch):
            return self._branch(step, times)
        endless = step.length == ENDLESS
        return self._loop(step, times * (1 if endless else evaluate(step.length, self._sizes)))

    def _all(self, steps: Sequence[Step], times: int) -> list[Noted]:
        return [self._of(step, times) for step in steps]

    def _loop(self, step: Loop, times: int) -> Noted:
        return _together(step.node, self._all(step.steps, times), times)

    def _branch(self, step: Branch, times: int) -> Noted:
        sides = (self._all(side, times) for side in (step.then, step.otherwise))
        return max(
            (_together(step.node, side, times) for side in sides),
            key=lambda row: (row.work, row.moved),
        )


def _together(node: Any, inside: Sequence[Noted], times: int) -> Noted:
    moved, work = sum(row.moved for row in inside), sum(row.work for row in inside)
    return Noted(node, None, moved, work, times, inside)
