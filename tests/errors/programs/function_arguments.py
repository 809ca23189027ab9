"""Too many arrays for a function."""

import graphc as g

x = g.placeholder(g.float32, [2], name="x")
double = g.function([x], x * 2)
double([1.0, 2.0], [3.0, 4.0])
