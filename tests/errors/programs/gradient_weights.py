"""Weights for another number of outputs."""

import graphc as g

w = g.Variable(3.0)
slope = g.gradients([w * w, w * 2], [w], grad_ys=[1.0])
