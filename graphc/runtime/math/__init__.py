"""Elementary functions as formulas that every native device computes: straight lines of arithmetic.

Enters: `Lanes`, a device's way to write one operation. Leaves: the device's own `Lanes`, so that
results are the same bits wherever a device rounds products and sums at once, or none does.
"""
