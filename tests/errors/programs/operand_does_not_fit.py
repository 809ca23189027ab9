"""A number too large for the tensor beside it."""

import graphc as g

pixels = g.placeholder(g.uint8, [28, 28], name="pixels")
y = pixels + 256
