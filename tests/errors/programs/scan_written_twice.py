"""Two writes to one variable in a step."""

import graphc as g

count = g.Variable(0, name="count")


def step():
    first = g.assign_add(count, 1)
    second = g.assign_add(count, 2)
    return first, second


g.scan(step, n_steps=3)
