"""A negative size."""

import graphc as g

x = g.placeholder(g.float32, [-1, 3])
