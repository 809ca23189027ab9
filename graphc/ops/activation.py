"""Pointwise activations of neural networks; those without a record of their own are compositions.

Each is finite, with a finite gradient, for every finite argument.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import trimmed
from graphc.graph import Tensor
from graphc.ops.arith import absolute, divide, multiply, negative
from graphc.ops.compare import greater
from graphc.ops.control import identity
from graphc.ops.domain import Domain, elementwise
from graphc.ops.elementary import expm1, softplus
from graphc.ops.elementary import sigmoid as sigmoid
from graphc.ops.gelu import gelu_of
from graphc.ops.pointwise import common_operands, in_floats, pointwise
from graphc.ops.select import clip, minimum, where
from graphc.ops.source import full_of
from graphc.ops.trigonometric import tanh
from graphc.scalar import apply

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _real(x: Any) -> Tensor:
    """`x` as a tensor of floats."""
    return common_operands(tanh.op, (x,), in_floats, "biuf")[0]  # type: ignore[attr-defined]  # pointwise builders carry their op


def _relu_vjp(g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    assert y.shape is not None
    zeros = full_of(0, y.shape, y.dtype)  # once, and whole: a deep network is mostly this
    return where(greater(y, zeros), g, zeros)


@pointwise(
    lambda x: np.maximum(x, 0),
    vjp=_relu_vjp,
    element=lambda x: apply("maximum", x, 0),
    domain=Domain(elementwise((0.1, 2)).cases + elementwise((-2, -0.1)).cases, "iuf"),
    takes="iuf",
)
def relu(x: Any, *, name: str | None = None) -> Tensor:
    """`max(x, 0)`. The gradient at 0 is 0. (V. Nair & G. Hinton, ICML 2010.)

    >>> relu([-1.0, 2.0]).eval()
    array([0., 2.], dtype=float32)
    """


@trimmed
def relu6(x: Any, *, name: str | None = None) -> Tensor:
    """`min(max(x, 0), 6)`. (A. Krizhevsky, "Convolutional deep belief networks on CIFAR-10", 2010.)

    >>> relu6([-1.0, 2.0, 8.0]).eval()
    array([0., 2., 6.], dtype=float32)
    """
    return minimum(relu(x), 6, name=name)


@trimmed
def leaky_relu(x: Any, alpha: Any = 0.2, *, name: str | None = None) -> Tensor:
    """`x` above 0, else `alpha * x`. (A. Maas et al., ICML 2013.)

    >>> leaky_relu([-1.0, 2.0]).eval().round(4)
    array([-0.2,  2. ], dtype=float32)
    """
    x = _real(x)
    return where(greater(x, 0), x, x * alpha, name=name)


@trimmed
def elu(x: Any, alpha: Any = 1.0, *, name: str | None = None) -> Tensor:
    """`x` above 0, else `alpha * (exp(x) - 1)`. (D.-A. Clevert et al., arXiv:1511.07289.)

    >>> elu([-1.0, 2.0]).eval().round(4)
    array([-0.6321,  2.    ], dtype=float32)
    """
    x = _real(x)
    return where(greater(x, 0), x, expm1(x) * alpha, name=name)


@trimmed
def selu(x: Any, *, name: str | None = None) -> Tensor:
    """1.0507 times the elu of alpha 1.67326, which keeps mean 0 and variance 1.

    (G. Klambauer et al., "Self-normalizing neural networks", NeurIPS 2017.)

    >>> selu([-1.0, 2.0]).eval().round(4)
    array([-1.1113,  2.1014], dtype=float32)
    """
    return multiply(elu(x, SELU_ALPHA), SELU_SCALE, name=name)


@trimmed
def gelu(x: Any, approximate: bool = False, *, name: str | None = None) -> Tensor:
    """`x` times the chance that a standard normal number is below it.

    (D. Hendrycks & K. Gimpel, arXiv:1606.08415.) `approximate` takes their formula by tanh.

    >>> gelu([-1.0, 2.0]).eval().round(4)
    array([-0.1587,  1.9545], dtype=float32)
    """
    return gelu_of(_real(x), approximate, name)


@trimmed
def hard_sigmoid(x: Any, *, name: str | None = None) -> Tensor:
    """`0.2 * x + 0.5`, within 0 and 1: Theano's and Keras's.

    >>> hard_sigmoid([-3.0, 1.0]).eval().round(4)
    array([0. , 0.7], dtype=float32)
    """
    return clip(_real(x) * 0.2 + 0.5, 0, 1, name=name)


@trimmed
def hard_tanh(x: Any, *, name: str | None = None) -> Tensor:
    """`x` within -1 and 1.

    >>> hard_tanh([-3.0, 0.5]).eval()
    array([-1. ,  0.5], dtype=float32)
    """
    return clip(x, -1, 1, name=name)


@trimmed
def log_sigmoid(x: Any, *, name: str | None = None) -> Tensor:
    """The logarithm of the sigmoid, exact also where that is tiny.

    >>> log_sigmoid([0.0, -1e4]).eval().round(4)
    array([-6.931e-01, -1.000e+04], dtype=float32)
    """
    return negative(softplus(negative(_real(x))), name=name)


@trimmed
def softsign(x: Any, *, name: str | None = None) -> Tensor:
    """`x / (1 + |x|)`. (J. Bergstra et al., "Quadratic polynomials ...", Montreal, 2009.)

    >>> softsign([-1.0, 3.0]).eval()
    array([-0.5 ,  0.75], dtype=float32)
    """
    x = _real(x)
    return divide(x, absolute(x) + 1.0, name=name)


@trimmed
def swish(x: Any, beta: Any = 1.0, *, name: str | None = None) -> Tensor:
    """`x * sigmoid(beta * x)`, also called silu. (P. Ramachandran et al., arXiv:1710.05941.)

    >>> swish([0.0, 1.0]).eval().round(4)
    array([0.    , 0.7311], dtype=float32)
    """
    x = _real(x)
    return multiply(x, sigmoid(x * beta), name=name)


@trimmed
def mish(x: Any, *, name: str | None = None) -> Tensor:
    """`x * tanh(softplus(x))`. (D. Misra, arXiv:1908.08681.)

    >>> mish([0.0, 1.0]).eval().round(4)
    array([0.    , 0.8651], dtype=float32)
    """
    x = _real(x)
    return multiply(x, tanh(softplus(x)), name=name)


@trimmed
def linear(x: Any, *, name: str | None = None) -> Tensor:
    """`x` itself.

    >>> linear([1.0, 2.0]).eval()
    array([1., 2.], dtype=float32)
    """
    return identity(x, name=name)


silu = swish
