"""Rules that divide each gradient by the size that it has had: AdaGrad, RMSProp, AdaDelta."""

from __future__ import annotations

from typing import Unpack

from graphc.errors import trimmed
from graphc.graph import Tensor
from graphc.ops.powers import sqrt
from graphc.ops.select import maximum
from graphc.optim.base import Optimiser, Options, Rate, Site, require_share
from graphc.optim.schedules import Number


def average(at: Site, slot: str, decay: Tensor, value: Tensor) -> Tensor:
    """The running average `decay · slot + (1 - decay) · value`, kept in the slot."""
    return at.keep(slot, decay * at.slot(slot) + (1.0 - decay) * value)


class AdaGrad(Optimiser):
    """A rate for each weight that falls with the squares of all its gradients.

        s ← s + g²
        w ← w - rate · g / (√s + epsilon)

    J. Duchi, E. Hazan, Y. Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", JMLR 12, 2011.

    >>> w = g.Variable([1.0, -2.0])
    >>> train = AdaGrad(0.1).minimize(g.sum(w * w))
    >>> with g.Session() as session:
    ...     session.run(train)
    ...     session.get(w).round(3)
    array([ 0.901, -1.9  ], dtype=float32)
    """

    @trimmed
    def __init__(
        self,
        learning_rate: Rate = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: Number = 1e-7,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def rule(self, at: Site) -> Tensor:
        """The variable's new value."""
        total = at.slot("accumulator", self.initial_accumulator_value) + at.gradient * at.gradient
        at.keep("accumulator", total)
        return at.value - at.rate * at.gradient / (sqrt(total) + at.number(self.epsilon))


class RMSProp(Optimiser):
    """Gradients divided by the root of their mean square.

        s ← rho · s + (1 - rho) · g²
        v ← momentum · v + rate · g / √(s + epsilon)
        w ← w - v

    `centered` subtracts the square of the mean gradient from s. T. Tieleman, G. Hinton, "Lecture
    6e: rmsprop", Coursera 2012; centered: A. Graves, "Generating sequences with recurrent neural
    networks", 2013. The epsilon stands where TensorFlow and Keras have it.

    >>> w = g.Variable([1.0, -2.0])
    >>> train = RMSProp(0.1).minimize(g.sum(w * w))
    >>> with g.Session() as session:
    ...     session.run(train)
    ...     session.get(w).round(3)
    array([ 0.684, -1.684], dtype=float32)
    """

    @trimmed
    def __init__(
        self,
        learning_rate: Rate = 0.001,
        rho: Number = 0.9,
        momentum: Number = 0.0,
        epsilon: Number = 1e-7,
        centered: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        require_share(self, rho=rho, momentum=momentum)
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = centered

    def rule(self, at: Site) -> Tensor:
        """The variable's new value."""
        rho = at.number(self.rho)
        spread = average(at, "mean_square", rho, at.gradient * at.gradient)
        if self.centered:
            mean = average(at, "mean_gradient", rho, at.gradient)
            spread = maximum(spread - mean * mean, 0.0)  # rounding must not make it negative
        move = at.rate * at.gradient / sqrt(spread + at.number(self.epsilon))
        if isinstance(self.momentum, Tensor) or self.momentum != 0:
            move = at.number(self.momentum) * at.slot("momentum") + move
            at.keep("momentum", move)
        return at.value - move


class AdaDelta(Optimiser):
    """Steps in the units of the weights: the root mean square of steps over that of gradients.

        s ← rho · s + (1 - rho) · g²
        d = √(u + epsilon) / √(s + epsilon) · g
        u ← rho · u + (1 - rho) · d²
        w ← w - rate · d

    M. Zeiler, "ADADELTA: an adaptive learning rate method", 2012. The paper has no rate: 1.0 is
    its rule, the default is Keras's.

    >>> w = g.Variable([1.0, -2.0])
    >>> train = AdaDelta(1.0).minimize(g.sum(w * w))
    >>> with g.Session() as session:
    ...     session.run(train)
    ...     session.get(w).round(3)
    array([ 0.999, -1.999], dtype=float32)
    """

    @trimmed
    def __init__(
        self,
        learning_rate: Rate = 0.001,
        rho: Number = 0.95,
        epsilon: Number = 1e-7,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        require_share(self, rho=rho)
        self.rho = rho
        self.epsilon = epsilon

    def rule(self, at: Site) -> Tensor:
        """The variable's new value."""
        rho, epsilon = at.number(self.rho), at.number(self.epsilon)
        square = average(at, "mean_square", rho, at.gradient * at.gradient)
        before = sqrt(at.slot("mean_square_step") + epsilon)
        step = before / sqrt(square + epsilon) * at.gradient
        average(at, "mean_square_step", rho, step * step)
        return at.value - at.rate * step
