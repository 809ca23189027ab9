"""What the function of a scan returns for a step, in Theano's forms.

Enters: its result: an output, a list of outputs, with `until(condition)` and a dictionary of
updates beside them. Leaves: a `Step`, whose outputs are tensors, updates and groups of updates in
the order in which they were given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graphc.build import describe
from graphc.dtypes import bool_
from graphc.errors import FetchError, ShapeError, brief
from graphc.graph import Tensor
from graphc.ops.source import Variable, as_tensor
from graphc.ops.state import Group, Update, assign


@dataclass(frozen=True)
class until:  # it is written as a function is
    """What a scan's function returns beside its outputs to end the loop: after this step.

    >>> def step(power):
    ...     return power * 2.0, until(power > 20.0)
    >>> scan(step, None, 1.0, n_steps=100).eval()
    array([ 2.,  4.,  8., 16., 32., 64.], dtype=float32)
    """

    condition: Any


@dataclass(frozen=True)
class Step:
    """Outputs; updates that came apart from them; whether there is an output that is no list."""

    places: tuple[Tensor | Update | Group, ...]
    apart: Group | None
    single: bool
    until: Tensor | None

    @property
    def outputs(self) -> list[Tensor]:
        """What is stacked."""
        return [place for place in self.places if isinstance(place, Tensor)]

    @property
    def updates(self) -> list[Update]:
        """What is written, in order; a variable twice is an error."""
        found: dict[Variable, Update] = {}
        for place in (*self.places, self.apart):
            if isinstance(place, (Update, Group)):
                for update in place.updates if isinstance(place, Group) else (place,):
                    other = found.setdefault(update.variable, update)
                    if other is not update:
                        raise FetchError(
                            "scan: a variable must be written once in a step, got two updates of "
                            f'"{update.variable.name}" ({update.variable.node.where})\n'
                            f"  one was made at {other.where}, the other at {update.where}"
                        )
        return list(found.values())

    def result(self, stacks: Mapping[Tensor, Any], last: Callable[[Update], Update]) -> Any:
        """The same form, of stacks and of updates with the last values."""

        def stands(place: Tensor | Update | Group) -> Any:
            if isinstance(place, Group):
                return Group(tuple(map(last, place.updates)))
            return last(place) if isinstance(place, Update) else stacks[place]

        listed = [stands(place) for place in self.places]
        outputs = listed[0] if self.single else listed
        if self.apart is None:
            return outputs
        return (outputs, stands(self.apart)) if self.places else stands(self.apart)


def _apart(part: Any) -> Group | None:
    """A dictionary of updates, or a list of pairs."""
    pairs = part
    if isinstance(part, Mapping):
        pairs = list(part.items())
    elif not (isinstance(part, list) and part and all(isinstance(p, tuple) for p in part)):
        return None
    if not all(len(pair) == 2 and isinstance(pair[0], Variable) for pair in pairs):
        raise ShapeError(
            f"scan: the updates of a step are a dict from variables to values, got {brief(part)}"
        )
    return Group(tuple(assign(variable, value) for variable, value in pairs))


def read_step(result: Any) -> Step:
    """The parts of what a function has returned."""
    parts = list(result) if isinstance(result, tuple) else [result]
    conditions = [part for part in parts if isinstance(part, until)]
    if len(conditions) > 1:
        raise ShapeError("scan: a step returns one until(condition), got several")
    outputs: list[Any] = []
    apart: Group | None = None
    for part in parts:
        if isinstance(part, until):
            continue
        found = _apart(part) if apart is None else None
        if found is None:
            outputs.append(part)
        apart = apart or found
    nested = len(outputs) == 1 and isinstance(outputs[0], (list, tuple))
    single = len(outputs) == 1 and not nested
    places = tuple(map(_place, outputs[0] if nested else outputs))
    return Step(places, apart, single, _condition(conditions[0]) if conditions else None)


def _place(part: Any) -> Tensor | Update | Group:
    if isinstance(part, (Update, Group)):
        return part
    if isinstance(part, (list, tuple, Mapping, until)) or part is None:
        raise ShapeError(
            "scan: a step returns a tensor, or a list of them, and perhaps a dict of updates and "
            f"until(condition), got {brief(part)}"
        )
    return as_tensor(part)


def _condition(end: until) -> Tensor:
    condition = as_tensor(end.condition)
    if condition.shape not in ((), None):
        raise ShapeError(
            f"scan: the condition of until must be a scalar, got {condition.type}\n"
            f"  it is {describe(condition)}"
        )
    return condition.astype(bool_)
