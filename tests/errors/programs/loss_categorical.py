"""Targets of another shape."""

import graphc as g

target = g.placeholder(g.float32, [32], name="target")
output = g.placeholder(g.float32, [32, 10], name="output")
loss = g.nn.categorical_crossentropy(output, target)
