"""A Python if on a tensor."""

import graphc as g

x = g.placeholder(g.float32, [], name="x")
y = x if x > 0 else -x
