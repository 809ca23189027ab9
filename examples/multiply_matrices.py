"""500x500 matrices multiplied on the CPU and on every OpenCL device: times, and how they differ.

Sums of floats depend on their order, so devices agree to rounding and not in every bit. The norm of
the difference is compared with that of the product, computed in float64.
"""

import time

import numpy as np

import graphc as g

SIDE, ROUNDS = 500, 10
rng = np.random.default_rng(0)
left = rng.standard_normal((SIDE, SIDE), dtype=np.float32)
right = rng.standard_normal((SIDE, SIDE), dtype=np.float32)
exact = left.astype(np.float64) @ right.astype(np.float64)

a = g.placeholder(g.float32, [SIDE, SIDE], name="a")
b = g.placeholder(g.float32, [SIDE, SIDE], name="b")
product = a @ b

names = ["cpu"] + [d.name for d in g.devices() if d.usable and d.name.startswith("opencl")]
results = {}
for name in names:
    with g.Session(name) as session:
        multiply = session.prepare(product, [a, b])
        results[name] = np.array(multiply(left, right))  # compiles
        times = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            multiply(left, right)
            times.append(time.perf_counter() - start)
    seconds = min(times)
    error = np.linalg.norm(results[name] - exact) / np.linalg.norm(exact)
    rate = 2 * SIDE**3 / seconds / 1e9
    print(f"{name:<9} {1e3 * seconds:7.2f} ms, {rate:6.1f} GFLOP/s, relative error {error:.1e}")

differences = [np.linalg.norm(results[name] - results["cpu"]) for name in names]
print(f"norm of the product:             {np.linalg.norm(exact):.1f}")
print(f"largest norm of the difference:  {max(differences):.2e}")
