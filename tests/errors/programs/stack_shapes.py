"""Pieces of different shapes."""

import graphc as g

a = g.placeholder(g.float32, [2, 3])
b = g.placeholder(g.float32, [3, 2])
c = g.stack([a, b])
