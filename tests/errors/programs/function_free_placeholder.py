"""A function that leaves out an input."""

import graphc as g

x = g.placeholder(g.float32, [2], name="x")
y = g.placeholder(g.float32, [2], name="y")
add = g.function([x], x + y)
add([1.0, 2.0])
