"""Adam and its kin: running averages of the gradient and of its square, freed of their bias."""

from __future__ import annotations

import math
from typing import Unpack

from graphc.errors import trimmed
from graphc.graph import Tensor
from graphc.ops.elementary import expm1, log
from graphc.ops.powers import sqrt
from graphc.ops.select import maximum
from graphc.optim.adaptive import average
from graphc.optim.base import Optimiser, Options, Rate, Site, require_share
from graphc.optim.schedules import Number


def debias(at: Site, beta: Number) -> Tensor:
    """`1 - beta ** t` for the step t, without cancellation where beta is near 1."""
    if isinstance(beta, Tensor):
        return -expm1(at.count * log(at.number(beta)))
    return -expm1(at.count * at.number(math.log(beta) if beta > 0 else -math.inf))


class Adam(Optimiser):
    """Adaptive moments.

        m ← beta_1 · m + (1 - beta_1) · g
        v ← beta_2 · v + (1 - beta_2) · g²
        w ← w - rate · (m / (1 - beta_1ᵗ)) / (√(v / (1 - beta_2ᵗ)) + epsilon)

    D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    `amsgrad` puts the largest v so far in the place of v: S. Reddi, S. Kale, S. Kumar, "On the
    convergence of Adam and beyond", ICLR 2018.

    >>> w = g.Variable([1.0, -2.0])
    >>> train = Adam(0.1).minimize(g.sum(w * w))
    >>> with g.Session() as session:
    ...     session.run(train)
    ...     session.get(w).round(3)
    array([ 0.9, -1.9], dtype=float32)
    """

    @trimmed
    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-7,
        amsgrad: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        require_share(self, beta_1=beta_1, beta_2=beta_2)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.amsgrad = amsgrad

    def rule(self, at: Site) -> Tensor:
        """The variable's new value."""
        return at.value - at.rate * self.direction(at)

    def direction(self, at: Site) -> Tensor:
        """What the rate multiplies."""
        m = average(at, "m", at.number(self.beta_1), at.gradient)
        return m / debias(at, self.beta_1) / self.scale(at)

    def scale(self, at: Site) -> Tensor:
        """The root of the gradient's mean square, plus epsilon."""
        v = average(at, "v", at.number(self.beta_2), at.gradient * at.gradient)
        if self.amsgrad:
            v = at.keep("v_maximum", maximum(at.slot("v_maximum"), v))
        return sqrt(v / debias(at, self.beta_2)) + at.number(self.epsilon)


class AdamW(Adam):
    """Adam with the weights' decay kept out of the moments.

        w ← w - rate · (Adam's direction + weight_decay · w)

    I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.

    >>> w = g.Variable([1.0, -2.0])
    >>> train = AdamW(0.1, weight_decay=0.5).minimize(g.sum(w * w))
    >>> with g.Session() as session:
    ...     session.run(train)
    ...     session.get(w).round(3)
    array([ 0.85, -1.8 ], dtype=float32)
    """

    @trimmed
    def __init__(
        self,
        learning_rate: Rate = 0.001,
        weight_decay: Number = 0.004,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-7,
        amsgrad: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, **options)
        self.weight_decay = weight_decay

    def direction(self, at: Site) -> Tensor:
        """What the rate multiplies."""
        return super().direction(at) + at.number(self.weight_decay) * at.value


class AdaMax(Optimiser):
    """Adam with the largest gradient, decayed, in the place of the mean square.

        m ← beta_1 · m + (1 - beta_1) · g
        u ← max(beta_2 · u, |g|)
        w ← w - rate / (1 - beta_1ᵗ) · m / (u + epsilon)

    The paper of `Adam`, algorithm 2; the epsilon, Keras's, is for weights that no gradient reached.

    >>> w = g.Variable([1.0, -2.0])
    >>> train = AdaMax(0.1).minimize(g.sum(w * w))
    >>> with g.Session() as session:
    ...     session.run(train)
    ...     session.get(w).round(3)
    array([ 0.9, -1.9], dtype=float32)
    """

    @trimmed
    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number = 1e-7,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        require_share(self, beta_1=beta_1, beta_2=beta_2)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def rule(self, at: Site) -> Tensor:
        """The variable's new value."""
        m = average(at, "m", at.number(self.beta_1), at.gradient)
        u = maximum(at.number(self.beta_2) * at.slot("u"), abs(at.gradient))
        at.keep("u", u)
        return at.value - at.rate / debias(at, self.beta_1) * m / (u + at.number(self.epsilon))


class Nadam(Adam):
    """Adam with Nesterov's momentum, whose factor rises with the steps.

        μₜ = beta_1 · (1 - 0.5 · 0.96^(t / 250)),  Π = μ₁ · μ₂ ... μₜ
        m̂ = μₜ₊₁ · m / (1 - Π · μₜ₊₁) + (1 - μₜ) · g / (1 - Π)
        w ← w - rate · m̂ / (√(v / (1 - beta_2ᵗ)) + epsilon)

    T. Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016; m and v are Adam's.

    >>> w = g.Variable([1.0, -2.0])
    >>> train = Nadam(0.1).minimize(g.sum(w * w))
    >>> with g.Session() as session:
    ...     session.run(train)
    ...     session.get(w).round(3)
    array([ 0.894, -1.894], dtype=float32)
    """

    def direction(self, at: Site) -> Tensor:
        """What the rate multiplies."""
        beta = at.number(self.beta_1)
        factor, following = (
            beta * (1.0 - 0.5 * at.number(0.96) ** (t / 250.0)) for t in (at.count, at.count + 1.0)
        )
        product = at.keep("product", at.slot("product", 1.0, shape=()) * factor)
        m = average(at, "m", beta, at.gradient)
        ahead = following * m / (1.0 - product * following)
        return (ahead + (1.0 - factor) * at.gradient / (1.0 - product)) / self.scale(at)
