"""A column of outputs beside a vector of targets."""

import graphc as g

target = g.placeholder(g.float32, [32], name="target")
output = g.placeholder(g.float32, [32, 1], name="output")
loss = g.nn.binary_crossentropy(output, target)
