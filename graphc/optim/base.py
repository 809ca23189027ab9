"""What every optimiser is: gradients of a loss in, one group of updates out.

A rule sees one variable through a `Site`: its value, its gradient, the learning rate, and slots
that a session keeps between runs. The rule returns the new value; slots, the counter of steps, and
names are the base's business. Updates are fetches: nothing here runs anything.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypedDict

from graphc.build import describe
from graphc.context import Scope, caller, name_scope, on_behalf, origin
from graphc.dims import Shape
from graphc.dtypes import summed
from graphc.errors import DTypeError, FetchError, GradientError, ShapeError, require, trimmed
from graphc.graph import Tensor, topological
from graphc.ops.gradient import flows, gradients
from graphc.ops.source import Variable, as_tensor, full_of
from graphc.ops.state import Group, Update, assign, assign_add, group
from graphc.optim.clipping import clip_by_global_norm, clip_by_norm, clip_by_value
from graphc.optim.crossed import refuse_crossed
from graphc.optim.schedules import Number, Schedule

Rate: TypeAlias = "float | Tensor | Schedule | Callable[[Tensor], Tensor | float]"
Pairs: TypeAlias = "list[tuple[Tensor, Variable]]"


class Options(TypedDict, total=False):
    """What every optimiser takes beside its own hyperparameters.

    `name` labels its slots and its nodes. The gradients can be clipped on their way in: each to a
    norm (`clip_norm`), all together (`global_clip_norm`), or value by value (`clip_value`).
    """

    name: str
    clip_norm: Number
    global_clip_norm: Number
    clip_value: float


class Site:
    """One variable during one application of a rule, in the dtype that the rule computes in.

    That is the variable's own dtype; float16 is computed in float32 and stored in float16.

    >>> class HeavyBall(Optimiser):
    ...     def rule(self, at):
    ...         return at.value + at.keep("v", 0.9 * at.slot("v") - at.rate * at.gradient)
    >>> w = g.Variable([1.0, -2.0])
    >>> HeavyBall(0.5).minimize(g.sum(w * w))
    <group of 2 updates>
    """

    def __init__(
        self, optimiser: Optimiser, variable: Variable, gradient: Tensor, unclipped: Tensor
    ) -> None:
        self.dtype = summed(variable.dtype)
        self.variable = variable
        self.value = variable.astype(self.dtype)
        self.gradient = gradient.astype(self.dtype)
        self.unclipped = unclipped
        self.curvature: Tensor | None = None  # for rules that look at it: set by `prepare`
        self.updates: list[Update] = []
        self._optimiser = optimiser

    @property
    def rate(self) -> Tensor:
        """The learning rate of this step."""
        rate = self._optimiser.learning_rate
        if isinstance(rate, Schedule):
            return self.number(rate(self._optimiser.counter().astype(self.dtype)))
        if isinstance(rate, Tensor) or not callable(rate):
            return self.number(rate)
        return self.number(rate(self._optimiser.counter()))

    @property
    def count(self) -> Tensor:
        """The number of this step, from 1."""
        return self._optimiser.counter().astype(self.dtype) + 1.0

    def number(self, value: Number) -> Tensor:
        """A hyperparameter as a tensor that widens nothing."""
        return as_tensor(value, self.dtype).astype(self.dtype)

    def slot(self, name: str, initial: float = 0.0, shape: Shape | None = None) -> Tensor:
        """The value that an earlier step kept (shape None: that of the variable)."""
        return self._optimiser.slot(self.variable, name, initial, shape).astype(self.dtype)

    def keep(self, name: str, value: Tensor) -> Tensor:
        """Write a slot, whose old value was read, at the end of the run."""
        slot = self._optimiser.slot(self.variable, name)
        self.updates.append(assign(slot, value.astype(slot.dtype)))
        return value

    def finish(self, value: Tensor) -> list[Update]:
        """All updates: the variable first."""
        return [assign(self.variable, value.astype(self.variable.dtype)), *self.updates]


class Optimiser(ABC):
    """The base of all optimisers. A new one overrides `rule`.

    `learning_rate` is a number, a scalar tensor (a placeholder too), or a schedule: a callable from
    the tensor `step` (0 in the first run) to the rate. Hyperparameters may be tensors as well.

    >>> class SignDescent(Optimiser):
    ...     def rule(self, at):
    ...         return at.value - at.rate * g.sign(at.gradient)
    >>> w = g.Variable([1.0, -2.0])
    >>> with g.Session() as session:
    ...     session.run(SignDescent(0.5).minimize(g.sum(w * w)))
    ...     session.get(w)
    array([ 0.5, -1.5], dtype=float32)
    """

    @trimmed
    def __init__(
        self,
        learning_rate: Rate,
        name: str | None = None,
        clip_norm: Number | None = None,
        global_clip_norm: Number | None = None,
        clip_value: float | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise _unknown_option(type(self), next(iter(unknown)))
        if isinstance(learning_rate, (int, float)):
            rule = "learning_rate must not be negative"
            require(learning_rate >= 0, type(self).__name__, rule, learning_rate)
        self.learning_rate = learning_rate
        self.name = name or type(self).__name__.lower()
        self._origin = origin()
        self._step: Variable | None = None
        self._applied = False
        self._clips = (clip_value, clip_norm, global_clip_norm)
        self._slots: dict[Variable, dict[str, Variable]] = {}
        self._scopes: dict[Variable, Scope] = {}

    @property
    def step(self) -> Variable:
        """The counter of steps, an int64 scalar: 0 in the first run.

        It exists where a schedule or the rule reads it, or where it was asked for before the first
        `minimize`; later, a FetchError: nothing would count.
        """
        if self._step is None and self._applied:
            raise FetchError(
                f"{self.name}: step must be asked for before minimize, for neither the rule nor "
                "the learning rate counts steps"
            )
        return self.counter()

    def counter(self) -> Variable:
        """The counter of steps, made on first use where the optimiser was made."""
        if self._step is None:
            with on_behalf(*self._origin):
                self._step = Variable(0, trainable=False, name=f"{self.name}/step", dtype="int64")
        return self._step

    @abstractmethod
    def rule(self, at: Site) -> Tensor:
        """The variable's new value."""

    def prepare(self, sites: Sequence[Site]) -> None:  # noqa: B027  # most rules need nothing
        """Add to the sites what a rule needs to know of all variables together."""

    def slots(self, variable: Variable) -> dict[str, Variable]:
        """The slots of one variable by name, such as `momentum`; empty before `apply`."""
        return dict(self._slots.get(variable, {}))

    def slot(
        self, variable: Variable, name: str, initial: float = 0.0, shape: Shape | None = None
    ) -> Variable:
        """One slot, made on first use beside its variable: in its scope and in its dtype."""
        slots = self._slots.setdefault(variable, {})
        if name not in slots:
            kept = variable.shape if shape is None else shape
            assert kept is not None, "variables have a rank"
            with on_behalf(caller(), self._scope(variable)):
                start = full_of(initial, kept, variable.dtype)
                slots[name] = Variable(start, trainable=False, name=name)
        return slots[name]

    def _scope(self, variable: Variable) -> Scope:
        """The scope of a variable's slots, beside it: `layer/weights/adam`."""
        if variable not in self._scopes:
            node = variable.node
            beside = Scope(node.name or node.op.name, node.scope)
            self._scopes[variable] = Scope(self.name, beside)
        return self._scopes[variable]

    @property
    def variables(self) -> list[Variable]:
        """Everything the optimiser remembers: the counter of steps, if any, then all slots."""
        counters = [] if self._step is None else [self._step]
        return [*counters, *(v for slots in self._slots.values() for v in slots.values())]

    @trimmed
    def minimize(self, loss: Tensor, variables: Sequence[Variable] | None = None) -> Group:
        """Updates that lower a scalar loss by one step; fetch them to take it.

        `variables`: one or several; None: all trainable ones that the loss's gradient reaches.
        """
        return self.apply(self.gradients(loss, variables))

    @trimmed
    def gradients(self, loss: Tensor, variables: Sequence[Variable] | None = None) -> Pairs:
        """Pairs of (gradient, variable) for `apply`; the gradients may be changed in between."""
        _check_loss(loss)
        chosen = trainable(loss) if variables is None else _checked(variables)
        if not chosen:
            raise _nothing_to_train(loss)
        return list(zip(gradients(loss, chosen), chosen, strict=True))

    @trimmed
    def apply(self, pairs: Iterable[tuple[Tensor, Variable]]) -> Group:
        """Updates of each variable by its gradient, and of the counter of steps, if any."""
        listed = [(g, v) for g, v in pairs if g is not None]
        if not listed:
            raise GradientError("apply: at least one variable must have a gradient, got none")
        variables = _checked([v for _, v in listed])
        with name_scope(self.name):
            given = [as_tensor(g, v.dtype) for g, v in listed]
            clipped = self._clip(given)
            sites = [Site(self, *three) for three in zip(variables, clipped, given, strict=True)]
            self.prepare(sites)
            updates = [u for site in sites for u in self._updates(site)]
            self._applied = True
            counted = [] if self._step is None else [assign_add(self._step, 1)]
            return group(*updates, *counted)

    def _updates(self, site: Site) -> list[Update]:
        """The updates of one variable, built in a scope of its name."""
        with name_scope(site.variable.name):
            return site.finish(self.rule(site))

    def _clip(self, found: list[Tensor]) -> list[Tensor]:
        value, norm, global_norm = self._clips
        if value is not None:
            found = [clip_by_value(g, -value, value) for g in found]
        if norm is not None:
            found = [clip_by_norm(g, norm) for g in found]
        return found if global_norm is None else clip_by_global_norm(found, global_norm)[0]


def require_share(optimiser: Optimiser, **numbers: Number) -> None:
    """Hyperparameters that are known must lie in [0, 1), else a ValueError."""
    for name, value in numbers.items():
        if not isinstance(value, Tensor):
            rule = f"{name} must be at least 0 and less than 1"
            require(0 <= value < 1, type(optimiser).__name__, rule, value)


def trainable(loss: Tensor) -> list[Variable]:
    """The trainable variables that a gradient of `loss` flows to, in the order of their making."""
    found: dict[Variable, None] = {}
    seen, stack = set(), [loss]
    while stack:
        tensor = stack.pop()
        if isinstance(tensor, Variable) and tensor.trainable and tensor.dtype.is_float:
            found[tensor] = None
        if tensor.node not in seen:
            seen.add(tensor.node)
            stack += [x for i, x in enumerate(tensor.node.inputs) if flows(tensor.node, i)]
    return sorted(found, key=lambda variable: variable.node.serial)


def _nothing_to_train(loss: Tensor) -> GradientError:
    """The error of a loss that no trainable variable can lower: what cuts the way, if anything."""
    read = (t for node in topological([loss]) for t in node.inputs)
    cut = [t for t in dict.fromkeys(read) if isinstance(t, Variable) and t.trainable]
    if not loss.dtype.is_float or any(v.dtype.is_float for v in cut):
        gradients(loss, [v for v in cut if v.dtype.is_float] or [loss])  # raises, and says why
    return GradientError(
        "minimize: the loss must depend on a trainable variable of a floating dtype\n"
        f"  the loss is {describe(loss)}"
    )


def _check_loss(loss: Tensor) -> None:
    if not isinstance(loss, Tensor):
        raise DTypeError(f"minimize: the loss must be a tensor, got {type(loss).__name__}")
    if loss.shape is not None and loss.shape != ():
        raise ShapeError(
            f"minimize: the loss must be a scalar, got {loss.type}\n"
            f"  the loss is {describe(loss)}; reduce it with g.mean or g.sum"
        )
    refuse_crossed(loss)


def _unknown_option(optimiser: type[Optimiser], option: str) -> TypeError:
    own = [p for p in inspect.signature(optimiser).parameters if p not in ("options", "unknown")]
    names = ", ".join(dict.fromkeys((*own, *Options.__annotations__)))
    return TypeError(
        f"{optimiser.__name__}: there is no option {option!r}; there are {names}\n"
        f"  {optimiser.__name__} was called at {origin()[0]}"
    )


def _checked(variables: Any) -> list[Variable]:
    """Distinct floating variables (one, or several), or an error that says which is not."""
    seen: set[Variable] = set()
    listed = [variables] if isinstance(variables, Tensor) else variables
    for variable in listed:
        if not isinstance(variable, Variable):
            kind = describe(variable) if isinstance(variable, Tensor) else repr(variable)
            raise DTypeError(f"minimize: only Variables can be trained, got {kind}")
        if not variable.dtype.is_float:
            raise DTypeError(
                f"minimize: only floats have gradients, got {variable.type}\n"
                f"  it is {describe(variable)}"
            )
        if variable in seen:
            raise GradientError(f"minimize: {describe(variable)} must be given only once")
        seen.add(variable)
    return list(listed)
