"""A name where TensorFlow and graphc have `trainable`."""

import graphc as g

w = g.Variable(g.zeros([3]), "w")
