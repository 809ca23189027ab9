"""Two vectors of five million numbers, added on an OpenCL device: with and without moving them.

Fed arrays travel to the device and results travel back, in each run. Variables stay on the device
between runs, so adding them there costs no transfer. Without an OpenCL driver the CPU does it all.
"""

import time

import numpy as np

import graphc as g

COUNT, ROUNDS = 5_000_000, 5
name = next((d.name for d in g.devices() if d.usable and d.name.startswith("opencl")), "cpu")
rng = np.random.default_rng(0)
a = rng.standard_normal(COUNT, dtype=np.float32)
b = rng.standard_normal(COUNT, dtype=np.float32)


def milliseconds(action):
    """The quickest of some rounds; the first one, which compiles, does not count."""
    action()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        action()
        times.append(1e3 * (time.perf_counter() - start))
    return min(times)


x = g.placeholder(g.float32, ["n"], name="a")
y = g.placeholder(g.float32, ["n"], name="b")
total = x + y

held_a, held_b = g.Variable(a, name="held_a"), g.Variable(b, name="held_b")
held_sum = g.Variable(np.zeros(COUNT, np.float32), name="held_sum")
add_there = g.assign(held_sum, held_a + held_b)

with g.Session(name) as session:
    print(f"{COUNT:,} numbers on {name}")
    fed = milliseconds(lambda: session.run(total, {x: a, y: b}))
    stay = milliseconds(lambda: session.run(add_there))
    print(f"fed, added, and brought back: {fed:8.2f} ms")
    print(f"added where they lie:         {stay:8.2f} ms")
    found, kept = session.run(total, {x: a, y: b}), session.get(held_sum)
print(f"added by NumPy:               {milliseconds(lambda: a + b):8.2f} ms")
print("the same bits as NumPy's:", np.array_equal(found, a + b) and np.array_equal(kept, a + b))
