"""Second derivatives: Newton's method on Rosenbrock's valley, where gradient descent crawls.

You see the Hessian at the minimum, the handful of steps that Newton's method takes against the
thousands of gradient descent, and a Hessian-vector product that never builds the Hessian.
"""

import numpy as np

import graphc as g


def rosenbrock(p):
    """A curved valley with its minimum, 0, at (1, 1)."""
    return (1.0 - p[0]) ** 2 + 100.0 * (p[1] - p[0] ** 2) ** 2


def hessian(y, x):
    """The matrix of second derivatives: the gradient of each entry of the gradient."""
    [slope] = g.gradients(y, [x])
    return g.stack([g.gradients(slope[i], [x])[0] for i in range(len(x))])


start = np.array([-1.2, 1.0])
point = g.Variable(start, name="point")
height = rosenbrock(point)
[slope] = g.gradients(height, [point])
curvature = hessian(height, point)
newton = g.assign_sub(point, g.linalg.solve(curvature, slope))
descent = g.optim.SGD(0.001).minimize(height)

with g.Session() as session:
    steps = 0
    while session.run(height) > 1e-20:
        session.run(newton)
        steps += 1
        print(f"Newton step {steps}: height {session.run(height):.3e} at {session.get(point)}")
    print("Hessian at the minimum:\n", session.run(curvature))
    print(f"Newton's method: {steps} steps")

    session.set(point, start)
    for _ in range(2000):
        session.run(descent)
    print(f"gradient descent: height {session.run(height):.3e} after 2000 steps")

# The Hessian times a vector needs no Hessian: it is the gradient of (gradient · vector).
size = 300
x = g.placeholder(g.float64, [size], name="x")
v = g.placeholder(g.float64, [size], name="v")
valley = g.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)
[gradient] = g.gradients(valley, [x])
[product] = g.gradients(g.sum(gradient * v), [x])

rng = np.random.default_rng(0)
feeds = {x: rng.normal(size=size), v: rng.normal(size=size)}
small = 1e-6
with g.Session() as session:
    exact = session.run(product, feeds)
    ahead = session.run(gradient, {x: feeds[x] + small * feeds[v]})
    behind = session.run(gradient, {x: feeds[x] - small * feeds[v]})
numeric = (ahead - behind) / (2 * small)
error = np.abs(exact - numeric).max() / np.abs(exact).max()
print(f"Hessian-vector product in {size} dimensions: relative error {error:.1e}")
