"""A rule that looks at the curvature."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Unpack

from graphc.dtypes import promote
from graphc.errors import trimmed
from graphc.graph import Tensor
from graphc.ops.gradient import gradients
from graphc.ops.powers import sqrt
from graphc.optim.base import Optimiser, Options, Rate, Site
from graphc.optim.schedules import Number
from graphc.random import normal


class ESGD(Optimiser):
    """Equilibrated SGD: each gradient divided by the size of its row of the Hessian.

        z ~ N(0, 1) for all variables together
        D ← D + (H z)²
        w ← w - rate · g / (√(D / t) + damping)

    H z is the gradient of the gradients' product with z, so the loss must have second derivatives;
    a step costs about twice that of SGD. Y. Dauphin, H. de Vries, Y. Bengio, "Equilibrated adaptive
    learning rates for non-convex optimization", NIPS 2015, algorithm 1.

    >>> w = g.Variable([1.0, -2.0])
    >>> train = ESGD(0.1).minimize(g.sum(w * w))
    >>> with g.Session(seed=0) as session:
    ...     before, _ = session.run([g.sum(w * w), train])
    ...     bool(session.run(g.sum(w * w)) < before)
    True
    """

    @trimmed
    def __init__(
        self,
        learning_rate: Rate = 0.01,
        damping: Number = 1e-4,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.damping = damping

    def prepare(self, sites: Sequence[Site]) -> None:
        """Multiply the Hessian of all variables with one random vector."""
        noise = [normal(s.variable.shape, dtype=s.dtype, name=_noise(s)) for s in sites]
        products = [
            (s.unclipped.astype(s.dtype) * z).sum() for s, z in zip(sites, noise, strict=True)
        ]
        dtype = reduce(promote, (p.dtype for p in products))
        total = reduce(lambda a, b: a + b, (p.astype(dtype) for p in products))
        found = gradients(total, [s.variable for s in sites], unconnected="zero")
        for site, product in zip(sites, found, strict=True):
            site.curvature = product.astype(site.dtype)

    def rule(self, at: Site) -> Tensor:
        """The variable's new value."""
        assert at.curvature is not None
        total = at.slot("curvature") + at.curvature * at.curvature
        at.keep("curvature", total)
        size = sqrt(total / at.count) + at.number(self.damping)
        return at.value - at.rate * at.gradient / size


def _noise(site: Site) -> str:
    return f"{site.variable.name}/noise"
