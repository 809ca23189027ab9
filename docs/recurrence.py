"""The loop that docs/control-flow.md shows the inside of."""

import graphc as g

x = g.placeholder("float32", ["time", 8], name="x")
w = g.placeholder("float32", [8, 4], name="w")
u = g.placeholder("float32", [4, 4], name="u")

hidden = g.scan(lambda row, h: g.tanh(row @ w + h @ u), x, g.zeros([4]), name="hidden")
