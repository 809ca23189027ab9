"""Pieces of unequal sizes."""

import graphc as g

x = g.placeholder(g.float32, [10, 2])
parts = g.split(x, 3)
