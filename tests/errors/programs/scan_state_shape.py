"""A state that a step returns in another shape."""

import graphc as g

x = g.placeholder("float32", [None, 3], name="x")
w = g.Variable([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], name="w")
h0 = g.zeros([3], name="h0")


def step(row, h):
    return g.tanh((row + h) @ w)


g.scan(step, x, h0)
