"""A product with a scalar."""

import graphc as g

x = g.placeholder(g.float32, [3, 3])
y = g.matmul(x, g.constant(2.0))
