"""State in Theano's style: functions that share variables and update them when called.

You see an accumulator that two functions share, why all updates of a call see the old values, and
a running mean and deviation that keeps up with batches of any size.
"""

import numpy as np

import graphc as g

# Two functions over one variable: what one writes, the other reads.
amount = g.placeholder(g.int64, [], name="amount")
state = g.Variable(0, name="state")
accumulate = g.function([amount], state, updates=[(state, state + amount)])
decrease = g.function([amount], state, updates=[(state, state - amount)])
print("state before adding 1: ", accumulate(1))
print("state before adding 10:", accumulate(10))
print("state before taking 2: ", decrease(2))
print("state now:             ", state.eval())

# All updates of a call read the values from before it, so the next Fibonacci pair needs no copy.
a, b = g.Variable(0, name="a"), g.Variable(1, name="b")
following = g.function([], a, updates=[(a, b), (b, a + b)])
print("Fibonacci:", *(int(following()) for _ in range(15)))

# `givens` replaces a part of the graph: here the amount, by twice itself.
double = g.function([amount], state, updates={state: state + amount}, givens={amount: amount * 2})
double(5)
print("state after adding twice 5:", state.eval())

# Running moments over a stream of batches (Chan, Golub and LeVeque's pairwise update).
batch = g.placeholder(g.float64, ["size"], name="batch")
count = g.Variable(0.0, name="count", dtype=g.float64)
mean = g.Variable(0.0, name="mean", dtype=g.float64)
squares = g.Variable(0.0, name="squares", dtype=g.float64)
size = g.cast(g.shape(batch)[0], g.float64)
delta = g.mean(batch) - mean
total = count + size
observe = g.function(
    [batch],
    updates=[
        (count, total),
        (mean, mean + delta * size / total),
        (squares, squares + g.sum((batch - g.mean(batch)) ** 2) + delta**2 * count * size / total),
    ],
)
stream = np.random.default_rng(0).normal(5.0, 2.0, 10_000)
for part in np.split(stream, [1, 10, 700, 5000]):
    observe(part)
deviation = np.sqrt(squares.eval() / count.eval())
print(f"running mean {mean.eval():.6f} and deviation {deviation:.6f} of {count.eval():.0f} numbers")
print(f"NumPy's      {stream.mean():.6f} and           {stream.std():.6f}")
