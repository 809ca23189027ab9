"""Two sizes left out."""

import graphc as g

x = g.placeholder(g.float32, [3, 4])
y = x.reshape(-1, 2, -1)
