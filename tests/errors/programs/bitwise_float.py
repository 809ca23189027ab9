"""Bits of floats."""

import graphc as g

x = g.placeholder(g.float32, [3], name="x")
y = x & 1
