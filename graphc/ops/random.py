"""Random bits: one counter-based source; every distribution is a composition of it (`random.py`).

`random_bits` is a pure function of `entropy` (the session's seed and the run's number, which the
runtime supplies), of its `key` (made of the op's own name, so that edits elsewhere change nothing)
and of the element's index. Philox-4x32-10: J. Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.dims import Shape
from graphc.dtypes import DType, uint32, uint64
from graphc.graph import Op, Tensor, make
from graphc.ops.domain import Case, Domain, Draw
from graphc.ops.source import no_oracle

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox(counter: np.ndarray[Any, Any], key: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Ten rounds of Philox-4x32 on counters uint32[..., 4] (held in uint64), one key for all."""
    c0, c1, c2, c3 = (counter[..., i] for i in range(4))
    k0, k1 = key
    for _ in range(10):
        first, second = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (second >> _HALF) ^ c1 ^ np.uint64(k0), second & _LOW,
            (first >> _HALF) ^ c3 ^ np.uint64(k1), first & _LOW,
        )  # fmt: skip
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1)


def _bits_oracle(
    entropy: np.ndarray[Any, Any], shape: tuple[int, ...], dtype: DType, key: int | None
) -> np.ndarray[Any, Any]:
    """Element i: the words of Philox at counter (i, run), keyed by the seed mixed with the key."""
    seed, run = int(entropy[0]), int(entropy[1])
    mixed = (seed ^ (key or 0)) & 0xFFFFFFFFFFFFFFFF
    index = np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.uint64)
    counter = np.empty((*index.shape, 4), np.uint64)
    counter[..., 0], counter[..., 1] = index & _LOW, index >> _HALF
    counter[..., 2], counter[..., 3] = run & 0xFFFFFFFF, run >> 32
    words = philox(counter, (mixed & 0xFFFFFFFF, mixed >> 32))
    bits = words[..., 0] if dtype is uint32 else words[..., 0] << _HALF | words[..., 1]
    return bits.astype(dtype.numpy).reshape(shape)


ENTROPY = Op(
    "entropy", "source", (),
    dtype=lambda check: uint64,
    shape=lambda check: (2,),
    oracle=no_oracle,
    domain=Domain(()),
)  # fmt: skip
RANDOM_BITS = Op(
    "random_bits", "opaque", ("entropy",),
    dtype=lambda check, entropy, shape, dtype, key: dtype,
    shape=lambda check, entropy, shape, dtype, key: shape,
    oracle=_bits_oracle,
    domain=Domain(
        tuple(
            Case(
                (Draw((2,), 0, 100, make=lambda rng, shape: rng.integers(0, 99, shape)),),
                {"shape": shape, "dtype": dtype, "key": 7},
            )
            for shape in ((), (0,), (2, 3))
            for dtype in (uint32, uint64)
        ),
        "",
    ),
    cuts="random bits are no function of floats",
)  # fmt: skip


def random_bits(
    shape: Shape, dtype: DType, name: str | None = None, key: int | None = None
) -> Tensor:
    """Uniform bits, uint32 or uint64; `key` None until a session gives the op its own."""
    entropy = make(ENTROPY, (), {})
    attrs = {"shape": shape, "dtype": dtype, "key": key}
    tensor: Tensor = make(RANDOM_BITS, (entropy,), attrs, name)
    return tensor


def is_unkeyed(type_or_node: Any) -> bool:
    """Whether a node is random bits that no session has keyed yet."""
    return type_or_node.op is RANDOM_BITS and type_or_node.attrs["key"] is None


