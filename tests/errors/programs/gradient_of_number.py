"""A gradient with respect to a number."""

import graphc as g

w = g.Variable(3.0)
slope = g.gradients(w * w, [3.0])
