"""A window larger than the image."""

import graphc as g

image = g.placeholder(g.float32, [1, 4, 4, 3])
y = g.nn.conv2d(image, g.zeros([5, 5, 3, 32]))
