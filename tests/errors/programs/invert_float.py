"""Negation of a mask that is a float."""

import graphc as g

mask = g.placeholder(g.float32, [3], name="mask")
y = ~mask
