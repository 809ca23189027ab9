"""A padding that does not exist."""

import graphc as g

image = g.placeholder(g.float32, [1, 28, 28, 3])
y = g.nn.conv2d(image, g.zeros([5, 5, 3, 32]), padding="FULL")
