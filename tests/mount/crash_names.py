"""Content, mode and mtime that follow from a name and a version, so that all can
be checked."""
import hashlib
import random


def size_of(name, version):
    rng = random.Random(f"{name} {version}")
    return rng.choice([0, 10, 5000, 16384, 16385, 100000, 300000, rng.randrange(3 << 20)])


def mode_of(name, version):
    return random.Random(f"{name} {version} mode").randrange(0o1000) | 0o400


def mtime_of(name, version):
    return random.Random(f"{name} {version} mtime").randrange(1, 10**18)


def content_of(name, version, size):
    seed = hashlib.sha256(f"{name} {version}".encode()).digest()
    return hashlib.shake_128(seed).digest(size)
