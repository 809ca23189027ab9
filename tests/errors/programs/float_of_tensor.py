"""A Python float made of a tensor."""

import graphc as g

loss = g.constant(3.0) * 2
print(float(loss))
