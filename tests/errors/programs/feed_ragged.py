"""Rows of different lengths."""

import graphc as g

x = g.placeholder(g.float32, [2, None], name="x")
with g.Session() as s:
    s.run(x + 1, {x: [[1.0, 2.0], [3.0]]})
