"""Shapes that do not broadcast."""

import graphc as g

a = g.placeholder(g.float32, ["batch", 3], name="a")
b = g.placeholder(g.float32, [4], name="b")
c = a + b
