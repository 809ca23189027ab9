"""A column by its name."""

import graphc as g

x = g.placeholder(g.float32, [3, 4])
y = x["price"]
