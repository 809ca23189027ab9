"""A learning rate that is a string."""

import graphc as g

w = g.Variable(3.0, name="w")
train = g.optim.SGD("0.1").minimize(w * w)
