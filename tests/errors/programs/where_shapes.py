"""A condition of another shape."""

import graphc as g

x = g.placeholder(g.float32, [3, 4])
mask = g.placeholder(g.bool_, [5], name="mask")
y = g.where(mask, x, 0.0)
