"""An image without its batch axis."""

import graphc as g

image = g.placeholder(g.float32, [28, 28, 3], name="image")
filters = g.Variable(g.zeros([5, 5, 3, 32]), name="filters")
y = g.nn.conv2d(image, filters)
