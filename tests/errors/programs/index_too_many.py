"""More indices than axes."""

import graphc as g

x = g.placeholder(g.float32, [3, 4])
y = x[0, 1, 2]
