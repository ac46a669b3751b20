"""Flip one bit somewhere in the given files. Usage: flip.py SEED FILE..."""
import os
import random
import sys

rng = random.Random(int(sys.argv[1]))
files = [f for f in sorted(sys.argv[2:]) if os.path.getsize(f) > 0]
path = rng.choices(files, weights=[os.path.getsize(f) for f in files])[0]
fd = os.open(path, os.O_RDWR)
while True:
    offset = rng.randrange(os.path.getsize(path))
    byte = os.pread(fd, 1, offset)[0]
    if byte != 0:  # not in a hole
        break
os.pwrite(fd, bytes([byte ^ 1 << rng.randrange(8)]), offset)
os.close(fd)
print(f"flipped a bit of {os.path.basename(path)} at {offset}")
