"""Optimisers, schedules of learning rates, and clipping: compositions of ops, and no new op.

optimiser = g.optim.Adam(g.optim.cosine_decay(0.001, 10_000))
train = optimiser.minimize(loss)
session.run([loss, train], {x: images, y: labels})
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from graphc import hints as _hints
from graphc.optim.adam import Adam, AdaMax, AdamW, Nadam
from graphc.optim.adaptive import AdaDelta, AdaGrad, RMSProp
from graphc.optim.base import Optimiser, Site
from graphc.optim.clipping import clip_by_global_norm, clip_by_norm, clip_by_value, global_norm
from graphc.optim.curvature import ESGD
from graphc.optim.descent import SGD, RProp
from graphc.optim.schedules import (
    Schedule,
    constant,
    cosine_decay,
    cosine_restarts,
    exponential_decay,
    inverse_time_decay,
    piecewise_constant,
    polynomial_decay,
    step_decay,
    warmup,
)

if not _TYPE_CHECKING:
    __getattr__ = _hints.of_module(__name__, _hints.OPTIM)

__all__ = [
    "ESGD",
    "SGD",
    "AdaDelta",
    "AdaGrad",
    "AdaMax",
    "Adam",
    "AdamW",
    "Nadam",
    "Optimiser",
    "RMSProp",
    "RProp",
    "Schedule",
    "Site",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "constant",
    "cosine_decay",
    "cosine_restarts",
    "exponential_decay",
    "global_norm",
    "inverse_time_decay",
    "piecewise_constant",
    "polynomial_decay",
    "step_decay",
    "warmup",
]
