"""Random operations on files of a directory, each checked against an in-memory
model. Usage: model.py DIR OPERATIONS SEED"""
import ctypes
import os
import random
import sys

libc = ctypes.CDLL(None, use_errno=True)
MAX = 6 << 20


def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


class Model:
    def __init__(self, base, seed):
        self.base = base
        self.rng = random.Random(seed)
        self.files = {}  # name -> bytearray
        self.open = {}  # name -> fd

    def fd(self, name):
        if name not in self.open:
            self.open[name] = os.open(f"{self.base}/{name}", os.O_CREAT | os.O_RDWR)
            self.files.setdefault(name, bytearray())
        return self.open[name]

    def place(self, size_max):
        """An offset and a length, often at boundaries."""
        edges = [0, 4096, 16384, 262144, 1 << 20, 2 << 20]
        offset = self.rng.choice([self.rng.randrange(MAX), self.rng.choice(edges) + self.rng.randrange(-3, 4)])
        length = self.rng.choice([1, 10, 511, 4096, 5000, 16384, 70000, self.rng.randrange(1, size_max)])
        return max(offset, 0), length

    def write(self, name):
        offset, length = self.place(1 << 20)
        data = self.rng.randbytes(length)
        fd, model = self.fd(name), self.files[name]
        assert os.pwrite(fd, data, offset) == length
        if len(model) < offset:
            model.extend(bytes(offset - len(model)))
        model[offset:offset + length] = data

    def append(self, name):
        data = self.rng.randbytes(self.rng.randrange(1, 20000))
        fd = self.fd(name)
        if len(self.files[name]) > MAX:
            return
        os.pwrite(fd, data, len(self.files[name]))
        self.files[name] += data

    def read(self, name):
        offset, length = self.place(2 << 20)
        got = os.pread(self.fd(name), length, offset)
        want = self.files[name][offset:offset + length]
        if got != want:
            at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
            sys.exit(f"{name}: read of {length} at {offset}: got {len(got)} bytes, wanted {len(want)}; "
                     f"differs at {offset + at}")

    def truncate(self, name):
        size = self.rng.choice([0, 100, 16384, 16385, self.rng.randrange(MAX)])
        os.ftruncate(self.fd(name), size)
        model = self.files[name]
        if size < len(model):
            del model[size:]
        else:
            model.extend(bytes(size - len(model)))

    def punch(self, name):
        offset, length = self.place(1 << 20)
        fallocate(self.fd(name), 3, offset, length)
        model = self.files[name]
        end = min(offset + length, len(model))
        if offset < end:
            model[offset:end] = bytes(end - offset)

    def clone(self, name):
        other = self.pick()
        if other == name:
            return
        source, target = self.fd(name), self.fd(other)
        offset, length = self.place(2 << 20)
        to = self.place(2)[0]
        data = self.files[name][offset:offset + length]
        done = 0
        while done < len(data):
            n = os.copy_file_range(source, target, len(data) - done, offset + done, to + done)
            assert n > 0
            done += n
        if data:
            model = self.files[other]
            if len(model) < to:
                model.extend(bytes(to - len(model)))
            model[to:to + len(data)] = data

    def sync(self, name):
        os.fsync(self.fd(name))

    def close(self, name):
        if name in self.open:
            os.close(self.open.pop(name))

    def rename(self, name):
        other = self.pick()
        self.fd(name)
        self.close(name)
        self.close(other)
        os.rename(f"{self.base}/{name}", f"{self.base}/{other}")
        self.files[other] = self.files.pop(name)

    def unlink(self, name):
        if name in self.files:
            self.close(name)
            os.unlink(f"{self.base}/{name}")
            del self.files[name]

    def stat(self, name):
        self.fd(name)
        size = os.stat(f"{self.base}/{name}").st_size
        if size != len(self.files[name]):
            sys.exit(f"{name}: size {size}, wanted {len(self.files[name])}")

    def whole(self, name):
        self.fd(name)
        with open(f"{self.base}/{name}", "rb") as f:
            if f.read() != self.files[name]:
                sys.exit(f"{name} differs as a whole")

    def pick(self):
        return f"f{self.rng.randrange(6)}"

    def step(self):
        actions = [self.write] * 8 + [self.append] * 3 + [self.read] * 8 + [self.truncate] * 2 + \
            [self.punch] * 2 + [self.clone] * 2 + [self.sync] * 2 + [self.close] * 3 + \
            [self.rename, self.unlink, self.stat, self.whole]
        self.rng.choice(actions)(self.pick())


base, operations, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
model = Model(base, seed)
for n in range(operations):
    try:
        model.step()
    except OSError as error:
        sys.exit(f"operation {n}: {error}")
    except SystemExit as error:
        sys.exit(f"operation {n}: {error}")
for file in list(model.files):
    model.whole(file)
if sorted(os.listdir(base)) != sorted(model.files):
    sys.exit(f"names: {sorted(os.listdir(base))}, wanted {sorted(model.files)}")
print(f"{operations} operations, no difference")
