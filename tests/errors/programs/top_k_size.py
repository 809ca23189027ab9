"""More than there are."""

import graphc as g

x = g.placeholder(g.float32, [2, 3])
y = g.top_k(x, 4)
