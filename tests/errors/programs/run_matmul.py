"""Ranks and sizes that the feeds bring."""

import graphc as g

x = g.placeholder(g.float32, None, name="x")
w = g.Variable(g.zeros([3, 2]), name="w")
y = g.matmul(x, w)
with g.Session() as s:
    s.run(y, {x: [[1.0, 2.0]]})
