"""Pieces that differ beside the axis."""

import graphc as g

a = g.placeholder(g.float32, [2, 3])
b = g.placeholder(g.float32, [2, 4])
c = g.concatenate([a, b], axis=0)
