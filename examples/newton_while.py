"""Newton's method in the graph: `while_loop` runs until the step is small, and has gradients.

You see cube roots, how many steps each took, and their derivatives: through the steps of the loop,
and by the implicit function theorem.
"""

import numpy as np

import graphc as g

TOLERANCE = 1e-12


def newton(function, start, most=100):
    """A root of `function`, and the number of steps; `start` is a scalar tensor."""

    def body(x, _, steps):
        root = g.identity(x)
        value = function(root)
        [slope] = g.gradients(value, [root])  # a gradient inside the loop
        change = value / slope
        return x - change, g.abs(change), steps + 1

    begin = (start, g.constant(1.0, dtype=g.float64), 0)
    root, _, steps = g.while_loop(
        lambda x, change, steps: change > TOLERANCE * g.abs(x), body, begin, max_steps=most
    )
    return root, steps


number = g.placeholder(g.float64, [], name="number")
root, steps = newton(lambda x: x**3 - number, start=number)
[slope] = g.gradients(root, [number])  # runs the loop's steps back, as many as there were

worst = 0.0
with g.Session() as session:
    for value in (1.0, 8.0, 27.0, 1e6):
        found, count, derivative = session.run([root, steps, slope], {number: value})
        print(
            f"cube root of {value:>9}: {found:.12g} in {count} steps, derivative {derivative:.6g}"
        )
        worst = max(worst, abs(found**3 / value - 1), abs(derivative * 3 * found**2 - 1))
    print("compilations:", session.compile_report().count)

    # The same function of many variables at once: Newton on a whole vector, with one condition.
    many = g.placeholder(g.float64, ["n"], name="many")
    roots, count = g.while_loop(
        lambda x, steps: g.max(g.abs(x**3 / many - 1.0)) > 1e-14,
        lambda x, steps: (x - (x**3 - many) / (3.0 * x**2), steps + 1),
        (many, 0),
        max_steps=200,
    )
    values = np.linspace(1.0, 50.0, 6)
    found, steps = session.run([roots, count], {many: values})
    print(f"cube roots of {values}: {found.round(6)} in {steps} steps")
    worst = max(worst, np.abs(found**3 / values - 1).max())
print(f"largest relative error: {worst:.1e}")
