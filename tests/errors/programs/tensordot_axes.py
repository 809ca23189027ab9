"""Contracted axes of different sizes."""

import graphc as g

a = g.placeholder(g.float32, [2, 3])
b = g.placeholder(g.float32, [2, 3])
c = g.tensordot(a, b, axes=1)
