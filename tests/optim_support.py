"""Every optimiser beside its update rule as a NumPy loop, on one small problem.

The problem is a regression with a quartic penalty: two variables, smooth, not quadratic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import graphc as g

Array = Any
STEPS = 20
RNG = np.random.default_rng(7)
X, Y = RNG.normal(size=(12, 3)), RNG.normal(size=12)
START = (RNG.normal(size=3), np.float64(0.3))


# ---------------------------------------------------------------------------- the problem


def problem(dtype: Any = np.float64) -> tuple[list[g.Variable], Any]:
    """A regression with a quartic penalty: two variables, a smooth loss that is not quadratic."""
    w, b = (g.Variable(np.asarray(s, dtype), name=n) for s, n in zip(START, "wb", strict=True))
    error = g.constant(X.astype(dtype)) @ w + b - g.constant(Y.astype(dtype))
    return [w, b], 0.5 * g.sum(error * error) + 0.1 * g.sum(w * w * w * w)


def height(w: Array, b: Array) -> Array:
    return 0.5 * np.sum((X @ w + b - Y) ** 2) + 0.1 * np.sum(w**4)


def slopes(w: Array, b: Array) -> list[Array]:
    error = X @ w + b - Y
    return [X.T @ error + 0.4 * w**3, np.sum(error)]


def hessian_times(w: Array, b: Array, z: list[Array]) -> list[Array]:
    moved = X @ z[0] + z[1]
    return [X.T @ moved + 1.2 * w**2 * z[0], np.sum(moved)]


# ---------------------------------------------------------------------------- NumPy's twins


def loop(rule: Callable[..., Array], steps: int = STEPS) -> list[Array]:
    """Run `rule(w, g, t, state)`, which returns the new value, on both variables."""
    values = [np.array(v) for v in START]
    states: list[dict[str, Array]] = [{}, {}]
    for t in range(1, steps + 1):
        found = slopes(*values)
        values = [rule(*part, t, s) for part, s in zip(zip(values, found), states, strict=True)]
    return values


def sgd(rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False) -> Any:
    def rule(w: Array, d: Array, t: int, s: dict[str, Array]) -> Array:
        s["v"] = momentum * s.get("v", 0 * w) - rate * d
        return w + momentum * s["v"] - rate * d if nesterov else w + s["v"]

    return rule


def rmsprop(momentum: float = 0.0, centered: bool = False) -> Any:
    def rule(w: Array, d: Array, t: int, s: dict[str, Array]) -> Array:
        s["s"] = 0.9 * s.get("s", 0) + 0.1 * d**2
        s["m"] = 0.9 * s.get("m", 0) + 0.1 * d
        spread = s["s"] - s["m"] ** 2 if centered else s["s"]
        s["v"] = momentum * s.get("v", 0) + 0.001 * d / np.sqrt(spread + 1e-7)
        return w - s["v"]

    return rule


def adagrad(w: Array, d: Array, t: int, s: dict[str, Array]) -> Array:
    s["a"] = s.get("a", 0.1) + d**2
    return w - 0.001 * d / (np.sqrt(s["a"]) + 1e-7)


def adadelta(w: Array, d: Array, t: int, s: dict[str, Array]) -> Array:
    s["g"] = 0.95 * s.get("g", 0) + 0.05 * d**2
    move = np.sqrt(s.get("x", 0) + 1e-7) / np.sqrt(s["g"] + 1e-7) * d
    s["x"] = 0.95 * s.get("x", 0) + 0.05 * move**2
    return w - 1.0 * move


def adam(amsgrad: bool = False, decay: float = 0.0) -> Any:
    def rule(w: Array, d: Array, t: int, s: dict[str, Array]) -> Array:
        s["m"] = 0.9 * s.get("m", 0) + 0.1 * d
        s["v"] = 0.999 * s.get("v", 0) + 0.001 * d**2
        s["x"] = np.maximum(s.get("x", 0), s["v"])
        v = s["x"] if amsgrad else s["v"]
        root = np.sqrt(v / (1 - 0.999**t)) + 1e-7
        return w - 0.001 * (s["m"] / (1 - 0.9**t) / root + decay * w)

    return rule


def adamax(w: Array, d: Array, t: int, s: dict[str, Array]) -> Array:
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * d
    s["u"] = np.maximum(0.999 * s.get("u", 0 * d), np.abs(d))
    return w - 0.001 / (1 - 0.9**t) * s["m"] / (s["u"] + 1e-7)


def nadam(w: Array, d: Array, t: int, s: dict[str, Array]) -> Array:
    now, ahead = (0.9 * (1 - 0.5 * 0.96 ** (k * 0.004)) for k in (t, t + 1))
    s["p"] = s.get("p", 1.0) * now
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * d
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * d**2
    mean = ahead * s["m"] / (1 - s["p"] * ahead) + (1 - now) * d / (1 - s["p"])
    return w - 0.001 * mean / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-7)


def rprop(w: Array, d: Array, t: int, s: dict[str, Array]) -> Array:
    """Element by element, as the paper prints it."""
    w, d = np.atleast_1d(w).copy(), np.atleast_1d(d)
    length = s.setdefault("length", np.full(w.shape, 0.1))
    before, move = s.setdefault("g", np.zeros(w.shape)), s.setdefault("move", np.zeros(w.shape))
    for i in range(w.size):
        if before[i] * d[i] > 0:
            length[i] = min(length[i] * 1.2, 50.0)
            move[i] = -np.sign(d[i]) * length[i]
            before[i] = d[i]
        elif before[i] * d[i] < 0:
            length[i] = max(length[i] * 0.5, 1e-6)
            move[i] = -move[i]
            before[i] = 0.0
        else:
            move[i] = -np.sign(d[i]) * length[i]
            before[i] = d[i]
    w += move
    return w if w.size > 1 else w[0]


CASES: dict[str, tuple[Callable[[], g.optim.Optimiser], Any]] = {
    "sgd": (lambda: g.optim.SGD(0.01), sgd()),
    "momentum": (lambda: g.optim.SGD(0.01, 0.9), sgd(momentum=0.9)),
    "nesterov": (lambda: g.optim.SGD(0.01, 0.9, True), sgd(momentum=0.9, nesterov=True)),
    "rmsprop": (g.optim.RMSProp, rmsprop()),
    "rmsprop_momentum": (lambda: g.optim.RMSProp(momentum=0.8), rmsprop(0.8)),
    "rmsprop_centered": (lambda: g.optim.RMSProp(centered=True), rmsprop(centered=True)),
    "adagrad": (g.optim.AdaGrad, adagrad),
    "adadelta": (lambda: g.optim.AdaDelta(1.0), adadelta),
    "adam": (g.optim.Adam, adam()),
    "amsgrad": (lambda: g.optim.Adam(amsgrad=True), adam(True)),
    "adamw": (lambda: g.optim.AdamW(weight_decay=0.1), adam(decay=0.1)),
    "adamax": (g.optim.AdaMax, adamax),
    "nadam": (g.optim.Nadam, nadam),
    "rprop": (g.optim.RProp, rprop),
}
OPTIMISERS: list[Callable[[Any], g.optim.Optimiser]] = [
    g.optim.SGD, lambda r: g.optim.SGD(r, 0.9), g.optim.RMSProp, g.optim.AdaGrad,
    g.optim.AdaDelta, g.optim.Adam, g.optim.AdaMax, g.optim.Nadam, g.optim.AdamW,
    g.optim.RProp, g.optim.ESGD,
]  # fmt: skip
ADADELTA = 4  # whose steps start small


def train(optimiser: g.optim.Optimiser, steps: int, dtype: Any = np.float64) -> list[Array]:
    variables, loss = problem(dtype)
    step = optimiser.minimize(loss)
    with g.Session(seed=1) as session:
        for _ in range(steps):
            session.run(step)
        return [session.get(v) for v in variables]
