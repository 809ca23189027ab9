"""Which devices this machine has, what they are, and whether they can be used.

Listing opens none of them. `graphc devices` prints the same; `graphc doctor` says what to install
where something is missing.
"""

import graphc as g

devices = g.devices()
for device in devices:
    print(device)
    for line in device.details():
        print("   ", line)

# What to give to `Session(device=...)`, by what a program needs.
usable = [device for device in devices if device.usable]
hardware = [device for device in usable if device.capabilities is not None]
wide = [device.name for device in hardware if device.capabilities.fp64]
large = max(hardware, key=lambda device: device.capabilities.global_memory, default=None)
print("can be used:", ", ".join(device.name for device in usable))
print("OpenCL devices with float64:", ", ".join(wide) or "none")
print("the most memory:", large.name if large else "none")

x = g.constant([3.0, 4.0])
for device in usable:
    with g.Session(device.name) as session:
        length = session.run(g.sqrt(g.sum(x * x)))
    print(f"length of (3, 4) on {device.name}: {length}")
