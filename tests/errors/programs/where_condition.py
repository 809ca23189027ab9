"""A condition that is a string."""

import graphc as g

x = g.placeholder(g.float32, [3])
y = g.where("x > 0", x, 0.0)
