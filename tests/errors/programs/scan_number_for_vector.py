"""A number where a state of some shape must begin."""

import graphc as g

x = g.placeholder("float32", [None, 3], name="x")
g.scan(lambda row, total: total + row, x, 0.0)
