"""TensorFlow's name of an option."""

import graphc as g

optimiser = g.optim.Adam(0.001, beta1=0.5)
