"""A list where a tensor is needed."""

import graphc as g

a = g.placeholder(g.float32, [3])
b = g.placeholder(g.float32, [3])
total = g.sum([a, b], axis=0)
