"""Powers by `scan`: a loop inside the graph, whose length a tensor says, and which has gradients.

You see A^k for several k by one compilation, its derivative, the coefficients of a polynomial
summed up by a loop over two sequences, and Fibonacci numbers by a state read at two steps back.
"""

import numpy as np

import graphc as g

# A ** k, element by element: the state is what the step before returned; A is simply used.
a = g.placeholder(g.float32, ["n"], name="a")
k = g.placeholder(g.int64, [], name="k")
powers = g.scan(lambda product: product * a, outputs_info=g.ones_like(a), n_steps=k)
last = powers[-1]  # only the last state is fetched, so no stack of them is kept
[slope] = g.gradients(g.sum(last), [a])

session = g.Session()
for exponent in (2, 3, 10):
    value, derivative = session.run([last, slope], {a: [1, 2, 3], k: exponent})
    print(f"[1 2 3]^{exponent:<2d} = {value}   derivative {derivative}")
print("compilations:", session.compile_report().count)

# A polynomial: a loop over two sequences at once. What has no initial value is not fed back.
coefficients = g.placeholder(g.float64, ["terms"], name="coefficients")
x = g.placeholder(g.float64, [], name="x")
terms = g.scan(
    lambda coefficient, power: coefficient * x**power,
    sequences=[coefficients, g.arange(1000)],  # the shorter one ends the loop
)
polynomial = g.sum(terms)
value, derivative = session.run(
    [polynomial, *g.gradients(polynomial, [x])], {coefficients: [1, 0, 2], x: 3.0}
)
print(f"1 + 2 x^2 at 3 = {value}, its slope {derivative}")

# Horner's rule says the same as a state, from the last coefficient to the first.
horner = g.scan(
    lambda coefficient, total: total * x + coefficient,
    sequences=coefficients,
    outputs_info=g.constant(0.0, dtype=g.float64),
    go_backwards=True,
)[-1]
print("by Horner's rule:", session.run(horner, {coefficients: [1, 0, 2], x: 3.0}))

# A state may be read at several steps back: its initial value has a row for each of these steps.
fibonacci = g.scan(
    lambda before, last: before + last,
    outputs_info={"initial": np.array([0, 1]), "taps": [-2, -1]},
    n_steps=13,
)
print("Fibonacci:", *session.run(fibonacci))

# until(condition) ends the loop after the step in which it holds.
doubled = g.scan(
    lambda number: (number * 2, g.until(number * 2 > 1000)),
    outputs_info=g.constant(1),
    n_steps=100,
)
print("powers of 2 until one is above 1000:", session.run(doubled)[-1])
session.close()
