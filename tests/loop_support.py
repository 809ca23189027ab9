"""What tests of branches, of loops' gradients and of inner fetches share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import graphc as g
from graphc.build import make
from graphc.graph import Op, Tensor
from graphc.ops.broadcast import same_dtype
from graphc.ops.domain import Domain


class Counter:
    """An op of the user's that gives its operand, and counts how often it has run."""

    def __init__(self, error: str | None = None) -> None:
        self.count = 0
        self._error = error
        self._op = Op(
            "counted", "host", ("x",), same_dtype, lambda check, x: x.shape, self._run,
            vjp=lambda g, y, x: g, domain=Domain(()),
        )  # fmt: skip

    def _run(self, x: Any) -> Any:
        self.count += 1
        if self._error is not None:
            raise ValueError(self._error)
        return x

    def __call__(self, x: Any) -> Tensor:
        """The operand, counted."""
        return make(self._op, (g.identity(x),))

    def taken(self) -> int:
        """How often it has run since this was last asked."""
        count, self.count = self.count, 0
        return count


def agree(
    session: g.Session, loops: Sequence[Tensor], unrolled: Sequence[Tensor], feeds: Any
) -> None:
    """Two ways to compute the same give the same, up to the rounding of another order."""
    got = session.run([*loops, *unrolled], feeds)
    for a, b in zip(got[: len(loops)], got[len(loops) :], strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def derivatives(y: Tensor, xs: Sequence[Tensor]) -> list[Tensor]:
    """The first gradients of a scalar, and those of a mixture of them."""
    first = g.gradients(y, list(xs), unconnected="zero")
    mixed = sum((g.sum(g.sin(d) * (1.0 + k)) for k, d in enumerate(first)), g.constant(0.0))
    return [*first, *g.gradients(mixed, list(xs), unconnected="zero")]
