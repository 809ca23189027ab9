"""A string as an operand."""

import graphc as g

x = g.placeholder(g.float32, [3])
y = g.exp("x")
