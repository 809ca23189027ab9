"""A size that is no whole number."""

import graphc as g

x = g.placeholder(g.float32, [3, 4])
y = x.reshape(12 / 2, 2)
