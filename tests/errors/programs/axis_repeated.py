"""An axis named twice."""

import graphc as g

x = g.placeholder(g.float32, [2, 3])
total = g.mean(x, axis=(0, -2))
