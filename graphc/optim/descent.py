"""Rules that follow the gradient, or its sign alone."""

from __future__ import annotations

from typing import Unpack

from graphc.errors import trimmed
from graphc.graph import Tensor
from graphc.ops.arith import sign
from graphc.ops.select import maximum, minimum, where
from graphc.optim.base import Optimiser, Options, Rate, Site, require_share
from graphc.optim.schedules import Number


class SGD(Optimiser):
    """Stochastic gradient descent, with momentum and Nesterov's accelerated gradient.

        v ← momentum · v - rate · g
        w ← w + v                              (without nesterov)
        w ← w + momentum · v - rate · g        (with nesterov)

    Momentum: B. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    Nesterov's form: I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of
    initialization and momentum in deep learning", ICML 2013, after Y. Nesterov, 1983.

    >>> w = g.Variable([1.0, -2.0])
    >>> train = SGD(0.25).minimize(g.sum(w * w))
    >>> with g.Session() as session:
    ...     session.run(train)
    ...     session.get(w).round(3)
    array([ 0.5, -1. ], dtype=float32)
    """

    @trimmed
    def __init__(
        self,
        learning_rate: Rate = 0.01,
        momentum: Number = 0.0,
        nesterov: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        require_share(self, momentum=momentum)
        self.momentum = momentum
        self.nesterov = nesterov

    def rule(self, at: Site) -> Tensor:
        """The variable's new value."""
        move = at.rate * at.gradient
        if not isinstance(self.momentum, Tensor) and self.momentum == 0:
            return at.value - move
        momentum = at.number(self.momentum)
        velocity = at.keep("momentum", momentum * at.slot("momentum") - move)
        return at.value + (momentum * velocity - move if self.nesterov else velocity)


class RProp(Optimiser):
    """Resilient backpropagation: a step length for each weight, led by the gradient's sign alone.

        length grows by `increase` where the gradient keeps its sign, and shrinks by `decrease`
        where it changes; w ← w - sign(g) · length, but where the sign changed the last move is
        taken back, and the next step starts as if there had been no gradient.

    `learning_rate` is the first length (the paper's Δ0). Meant for full batches.
    M. Riedmiller, H. Braun, "A direct adaptive method for faster backpropagation learning: the
    RPROP algorithm", IEEE International Conference on Neural Networks 1993.

    >>> w = g.Variable([1.0, -2.0])
    >>> train = RProp(0.1).minimize(g.sum(w * w))
    >>> with g.Session() as session:
    ...     session.run(train)
    ...     session.get(w).round(3)
    array([ 0.9, -1.9], dtype=float32)
    """

    @trimmed
    def __init__(
        self,
        learning_rate: Rate = 0.1,
        decrease: Number = 0.5,
        increase: Number = 1.2,
        minimum_step: Number = 1e-6,
        maximum_step: Number = 50.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.factors = (decrease, increase)
        self.limits = (minimum_step, maximum_step)

    def rule(self, at: Site) -> Tensor:
        """The variable's new value."""
        decrease, increase = map(at.number, self.factors)
        low, high = map(at.number, self.limits)
        kept = at.slot("length")
        length = where(kept > 0.0, kept, at.rate)  # 0 until the first step
        direction = sign(at.gradient)
        agreement = direction * at.slot("sign")
        turned = agreement < 0.0
        length = where(agreement > 0.0, minimum(length * increase, high), length)
        length = where(turned, maximum(length * decrease, low), length)
        move = where(turned, -at.slot("move"), -direction * length)
        at.keep("length", length)
        at.keep("move", move)
        at.keep("sign", where(turned, 0.0, direction))
        return at.value + move
