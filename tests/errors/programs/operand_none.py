"""None as an operand: a function forgot its return."""

import graphc as g

x = g.placeholder(g.float32, [3])
y = g.add(x, None)
