"""A product whose batch axes do not broadcast."""

import graphc as g

a = g.placeholder(g.float32, [4, 2, 3])
b = g.placeholder(g.float32, [5, 3, 2])
c = a @ b
