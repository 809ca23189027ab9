"""A size below -1."""

import graphc as g

x = g.placeholder(g.float32, [3, 4])
y = x.reshape(-2, 6)
