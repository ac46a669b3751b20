"""Write, overwrite, append, rename, remove; note in a journal (on another
filesystem) what was promised. Usage: crash_load.py DIR JOURNAL SEED

The journal's lines:
    intent NAME VERSION   NAME may be of this version from now on
    synced NAME VERSION   fsync of it returned
    gone NAME             its removal and the fsync of the directory returned
Content, mode and mtime of a version: see crash_names.py."""
import os
import random
import sys

from crash_names import content_of, mode_of, mtime_of, size_of


def main():
    base, journal_path, seed = sys.argv[1:]
    rng = random.Random(int(seed))
    journal = open(journal_path, "a", buffering=1)
    directory = os.open(base, os.O_RDONLY)
    versions = {}  # the latest of each name; never used twice
    present = set()
    for step in range(100000):
        if os.path.exists(journal_path + ".stop"):
            break
        name = f"{seed}-{rng.randrange(40)}"
        version = versions.get(name, 0) + 1
        data = content_of(name, version, size_of(name, version))
        if rng.random() < 0.15 and name in present:
            journal.write(f"intent {name} 0\n")
            os.unlink(f"{base}/{name}")
            os.fsync(directory)
            journal.write(f"gone {name}\n")
            present.discard(name)
            continue
        journal.write(f"intent {name} {version}\n")
        # Replace by rename, so that a name holds one whole version at any time.
        temporary = f"{base}/.{name}.tmp"
        fd = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        pieces = rng.choice([1, 1, 3, 10])
        for i in range(pieces):
            lo, hi = len(data) * i // pieces, len(data) * (i + 1) // pieces
            view = memoryview(data)[lo:hi]
            while len(view) > 0:
                view = view[os.write(fd, view):]
        os.fchmod(fd, mode_of(name, version))
        os.utime(fd, ns=(1, mtime_of(name, version)))
        synced = rng.random() < 0.7
        if synced:
            os.fsync(fd)
        os.close(fd)
        os.rename(temporary, f"{base}/{name}")
        if synced:
            os.fsync(directory)
            journal.write(f"synced {name} {version}\n")
        versions[name] = version
        present.add(name)


main()
