"""Random bits: one counter-based source; every distribution is a composition of it (`random.py`).

`random_bits` is a pure function of `entropy` (the session's seed and the run's number, which the
runtime supplies), of its `key` (made of the op's own name, so that edits elsewhere change nothing)
and of the element's index. Philox-4x32-10: J. Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011.

Block b of a run is Philox at the counter (b, run), 64 bits each; its four words are the uint32
elements 4b to 4b+3, or, two by two (the low half first), the uint64 elements 2b and 2b+1. So an
element depends on its flat index alone, not on the shape around it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.build import Check, make
from graphc.dims import Shape
from graphc.dtypes import DType, uint32, uint64
from graphc.graph import Op, Tensor
from graphc.kernel import Index, Source, cast, lift
from graphc.ops.bodies import ENTROPY_OF_STEP
from graphc.ops.domain import Case, Domain, Draw
from graphc.ops.joining import concatenate
from graphc.ops.source import as_tensor, no_oracle
from graphc.places import linear
from graphc.scalar import Like, Scalar, apply, select
from graphc.types import TensorType

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_WORD = 0xFFFFFFFF
_CHUNK = 4096  # blocks at a time, so that the rounds stay in cache


def philox(counter: np.ndarray[Any, Any], key: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Ten rounds of Philox-4x32 on counters uint32[4, ...] (held in uint64), one key for all."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        first, second = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (second >> _HALF) ^ c1 ^ np.uint64(k0), second & _LOW,
            (first >> _HALF) ^ c3 ^ np.uint64(k1), first & _LOW,
        )  # fmt: skip
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3])


def _bits_oracle(
    entropy: np.ndarray[Any, Any], *like: Any, shape: tuple[int, ...] | None, dtype: DType,
    key: int | None, seeded: bool,
) -> np.ndarray[Any, Any]:  # fmt: skip
    """The words of Philox, keyed by the key mixed with the session's seed; by the key if seeded."""
    if shape is None:
        shape = like[0].shape
    seed, run = int(entropy[0]), int(entropy[1])
    mixed = (key or 0) ^ (0 if seeded else seed)
    count, each = int(np.prod(shape, dtype=np.int64)), 4 if dtype is uint32 else 2
    bits = np.empty((-(-count // each), each), dtype.numpy)
    for start in range(0, len(bits), _CHUNK):
        part = bits[start : start + _CHUNK]
        words = _block_words(start, len(part), run, (mixed & 0xFFFFFFFF, mixed >> 32))
        if dtype is uint64:
            words = np.stack([words[0] | words[1] << _HALF, words[2] | words[3] << _HALF])
        part[:] = words.T
    return bits.reshape(-1)[:count].reshape(shape)


def _block_words(start: int, count: int, run: int, key: tuple[int, int]) -> np.ndarray[Any, Any]:
    """The four words of some blocks of a run."""
    block = np.arange(start, start + count, dtype=np.uint64)
    counter = np.empty((4, count), np.uint64)
    counter[0], counter[1] = block & _LOW, block >> _HALF
    counter[2], counter[3] = run & 0xFFFFFFFF, run >> 32
    return philox(counter, key)


def _philox_words(counter: Sequence[Scalar], key: tuple[Like, Like]) -> list[Scalar]:
    """`philox`, as formulas."""
    c0, c1, c2, c3 = counter
    k0, k1 = map(lift, key)
    for _ in range(10):
        first, second = (c * int(m) for c, m in zip((c0, c2), _MULTIPLIERS, strict=True))
        c0, c1, c2, c3 = (
            (second >> 32) ^ c1 ^ k0, second & _WORD, (first >> 32) ^ c3 ^ k1, first & _WORD,
        )  # fmt: skip
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return [c0, c1, c2, c3]


def _bits_element(
    index: Index, entropy: Source, *like: Source, shape: Shape | None, dtype: DType,
    key: int | None, seeded: bool,
) -> Scalar:  # fmt: skip
    """Each element computes the block that it is in."""
    place = cast(linear(index, like[0].shape if shape is None else shape), uint64)
    block = place >> (2 if dtype is uint32 else 1)
    run, own = entropy(1), key or 0
    mixed = entropy(0) ^ own
    keys = (own & _WORD, own >> 32) if seeded else (mixed & _WORD, mixed >> 32)
    words = _philox_words((block & _WORD, block >> 32, run & _WORD, run >> 32), keys)
    if dtype is uint64:
        words = [words[0] | words[1] << 32, words[2] | words[3] << 32]
    lane, element = place & (len(words) - 1), words[-1]
    for number in reversed(range(len(words) - 1)):
        element = select(apply("equal", lane, number), words[number], element)
    return element


def _bits_shape(
    check: Check, entropy: TensorType, *like: TensorType, shape: Shape | None, **_: Any
) -> Shape | None:
    return like[0].shape if shape is None else shape


def _bits_build(
    entropy: Tensor, *like: Tensor, shape: Shape | None, name: str | None = None, **attrs: Any
) -> Tensor:
    """`like`, which lends its shape, is dropped once its rank is known."""
    if shape is None and like[0].shape is not None:
        shape = like[0].shape
    operands = (entropy, *like) if shape is None else (entropy,)
    return make(RANDOM_BITS, operands, {"shape": shape, **attrs}, name)


ENTROPY = Op(
    "entropy", "source", (),
    dtype=lambda check: uint64,
    shape=lambda check: (2,),
    oracle=no_oracle,
    domain=Domain(()),
)  # fmt: skip
RANDOM_BITS = Op(
    "random_bits", "opaque", ("entropy",),
    dtype=lambda check, *types, dtype, **_: dtype,
    shape=_bits_shape,
    oracle=_bits_oracle,
    element=_bits_element,
    build=_bits_build,
    rankless=lambda shape, **_: shape,
    domain=Domain(
        tuple(
            Case(
                (Draw((2,), 0, 100, make=lambda rng, shape: rng.integers(0, 99, shape)),),
                {"shape": shape, "dtype": dtype, "key": 7, "seeded": seeded},
            )
            for shape in ((), (0,), (2, 3))
            for dtype in (uint32, uint64)
            for seeded in (False, True)
        ),
        "u",
    ),
    cuts="random bits are no function of floats",
)  # fmt: skip


def seed_key(seed: int) -> int:
    """64 bits of an op's own seed, spread so that seeds 0 and 1 share nothing."""
    digest = hashlib.blake2b(f"graphc op seed {int(seed)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def random_bits(
    shape: Shape | None, dtype: DType, name: str | None = None, seed: int | None = None,
    like: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Uniform bits, uint32 or uint64, of a shape (None: that of `like`, whatever its rank).

    The session keys them by the op's name and its own seed; with `seed`, by that alone.
    """
    entropy = _entropy()
    key = None if seed is None else seed_key(seed)
    operands = (entropy,) if like is None else (entropy, like)
    attrs = {"shape": shape, "dtype": dtype, "key": key, "seeded": seed is not None}
    return _bits_build(*operands, **attrs, name=name)  # type: ignore[arg-type]  # attributes by name


def _entropy() -> Tensor:
    """That of the step that is being built; outside of loops, the run's."""
    inner = ENTROPY_OF_STEP.get()
    return make(ENTROPY, (), {}) if inner is None else inner


def entropy_of(step: Tensor) -> Tensor:
    """The entropy of one step of a loop: that around it, its run's number mixed with the step's.

    The mixing is that of SplitMix64: G. Steele et al., "Fast splittable pseudorandom number
    generators", OOPSLA 2014.
    """
    around = _entropy()
    number = (step + 1).astype(uint64)
    mixed = around[1:] + number * as_tensor(np.uint64(0x9E3779B97F4A7C15))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> shift)) * as_tensor(np.uint64(factor))
    return concatenate([around[:1], mixed ^ (mixed >> 31)])


def is_unkeyed(type_or_node: Any) -> bool:
    """Whether a node is random bits that no session has keyed yet."""
    return type_or_node.op is RANDOM_BITS and type_or_node.attrs["key"] is None
