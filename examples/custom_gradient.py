"""Gradients of your own formulas: checked against differences, and bent where you want.

You see the report of `check_gradient` on a loss written with plain operators, its derivative beside
the one from the textbook, and a rounding that has a gradient all the same ("straight through").
"""

import numpy as np

import graphc as g


def log_cosh(x):
    """log(cosh(x)), written so that large |x| does not overflow: nearly |x|, but smooth at 0."""
    size = abs(x)
    return size + g.nn.softplus(-2.0 * size) - float(np.log(2.0))


x = g.placeholder(g.float32, ["n"], name="x")
points = np.array([-200.0, -2.0, -0.5, 0.25, 1.0, 30.0], np.float32)
y = log_cosh(x)
[slope] = g.gradients(y, [x])
[curvature] = g.gradients(slope, [x])

print(g.check_gradient(g.sum(y), [x], {x: points}))
with g.Session() as session:
    values, slopes, curvatures = session.run([y, slope, curvature], {x: points})
np.set_printoptions(precision=4, suppress=True, linewidth=100)
print("x          ", points)
print("log(cosh x)", values)
print("slope      ", slopes)
print("tanh(x)    ", np.tanh(points))
print("curvature  ", curvatures)
print(f"largest error of the slope: {np.abs(slopes - np.tanh(points)).max():.1e}")


def quantise(x):
    """Rounding, whose own gradient is 0: forward the rounded value, backward that of `x`."""
    return x + g.stop_gradient(g.round(x) - x)


# Find whole numbers by descent, through a rounding that its own gradient could not see past.
target = g.constant([1.0, -3.0, 4.0])
code = g.Variable([0.1, 0.1, 0.1], name="code")
loss = g.sum((quantise(code) - target) ** 2)
train_step = g.optim.SGD(0.05).minimize(loss)
with g.Session() as session:
    for _ in range(60):
        session.run(train_step)
    latent, found, remaining = session.run([code, quantise(code), loss])
print("latent numbers", latent, "rounded", found)
print(f"remaining loss: {remaining:.2f}")
