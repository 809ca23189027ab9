"""A state of a size that only a run brings, which the step does not keep."""

import graphc as g

x = g.placeholder("float32", [None, "width"], name="x")
h0 = g.placeholder("float32", [None], name="h0")
h = g.scan(lambda row, h: g.tanh(h + row), x, h0)
g.Session().run(h, {x: [[1.0, 2.0, 3.0]], h0: [0.0]})
