"""A loss that no variable has a part in."""

import graphc as g

x = g.placeholder(g.float32, ["batch"], name="x")
train = g.optim.SGD(0.1).minimize((x * x).sum())
