"""Filters for another number of channels."""

import graphc as g

images = g.placeholder(g.float32, ["batch", 28, 28, 3], name="images")
filters = g.Variable(g.zeros([5, 5, 1, 32]), name="filters")
y = g.nn.conv2d(images, filters)
