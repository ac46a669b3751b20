"""Files whose content follows from their name and size.

    content.py write DIR SIZE...   make them, fsynced
    content.py verify DIR          every byte of each is right
    content.py lost DIR            files beyond the inline limit give EIO or the
                                   right bytes, at least one EIO, never others"""
import errno
import hashlib
import os
import sys

INLINE_MAX = 16384


def content(name, size):
    """Bytes that no other place of any file shares."""
    out = bytearray()
    seed = hashlib.sha256(name.encode()).digest()
    block = 0
    while len(out) < size:
        out += hashlib.shake_128(seed + block.to_bytes(8, "big")).digest(min(1 << 20, size - len(out)))
        block += 1
    return bytes(out)


def write(base, sizes):
    for size in sizes:
        name = f"f{size}"
        with open(f"{base}/{name}", "wb", buffering=0) as f:
            data = memoryview(content(name, size))
            while len(data) > 0:
                data = data[f.write(data):]
            os.fsync(f.fileno())


def each(base):
    for name in sorted(os.listdir(base), key=lambda n: int(n[1:])):
        yield name, int(name[1:])


def verify(base):
    count = 0
    for name, size in each(base):
        with open(f"{base}/{name}", "rb") as f:
            if f.read() != content(name, size):
                sys.exit(f"{name} differs")
        count += 1
    if count == 0:
        sys.exit("no files")


def lost(base):
    errors = 0
    for name, size in each(base):
        want = content(name, size)
        fd = os.open(f"{base}/{name}", os.O_RDONLY)
        for offset in range(0, max(size, 1), 1 << 18):
            try:
                got = os.pread(fd, 1 << 18, offset)
            except OSError as e:
                if e.errno != errno.EIO or size <= INLINE_MAX:
                    sys.exit(f"{name} at {offset}: {e}")
                errors += 1
                continue
            if got != want[offset:offset + len(got)] or (not got and size):
                sys.exit(f"{name} at {offset}: other bytes")
        os.close(fd)
    if errors == 0:
        sys.exit("everything could be read, with three of six lost")


if __name__ == "__main__":
    command, base, *rest = sys.argv[1:]
    if command == "write":
        write(base, [int(size) for size in rest])
    elif command == "verify":
        verify(base)
    else:
        lost(base)
