"""The 1,797 handwritten digits in the package (see ORIGIN.md), split once and for all."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"
HELD_OUT = 0.2  # the part that training never sees
SPLIT_SEED = 0  # the same split whatever the seed of the training


class Digits(NamedTuple):
    """Images as float32[n,64] from 0 to 1, row by row, and the digits that they show, int32[n]."""

    images: Array
    labels: Array


def load() -> tuple[Digits, Digits]:
    """The 1,438 digits to train with, and the 359 held out.

    >>> train, held_out = load()
    >>> train.images.shape, held_out.images.shape
    ((1438, 64), (359, 64))
    """
    file = files("graphc.demo").joinpath("digits.npz")
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        images, labels = archive["images"], archive["labels"]
    flat = images.reshape(len(images), -1).astype(np.float32) / 16.0
    order = np.random.default_rng(SPLIT_SEED).permutation(len(flat))
    cut = len(flat) - int(HELD_OUT * len(flat))
    train, held_out = order[:cut], order[cut:]
    numbers = labels.astype(np.int32)
    return Digits(flat[train], numbers[train]), Digits(flat[held_out], numbers[held_out])
