"""Pieces of different ranks."""

import graphc as g

a = g.placeholder(g.float32, [2, 3])
b = g.placeholder(g.float32, [3])
c = g.concatenate([a, b])
