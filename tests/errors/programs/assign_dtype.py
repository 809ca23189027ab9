"""Floats for an integer variable."""

import graphc as g

step = g.Variable(0, name="step")
update = g.assign(step, step * 0.5)
