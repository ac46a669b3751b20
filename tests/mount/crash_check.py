"""Check a directory against the journals of crash_load.py.
Usage: crash_check.py DIR JOURNAL-DIR

A name that was synced holds that version or one intended later; a name that was
removed is gone or holds one intended later; whatever is there is whole."""
import os
import sys

from crash_names import content_of, mode_of, mtime_of, size_of

base, journals = sys.argv[1:]
allowed = {}  # name -> versions it may have now; 0: absent
for journal in os.listdir(journals):
    if journal.endswith(".stop"):
        continue
    for line in open(f"{journals}/{journal}"):
        word, name, *version = line.split()
        version = int(version[0]) if version else 0
        if word == "intent":
            allowed.setdefault(name, {0}).add(version)
        else:
            allowed[name] = {version}
problems = 0
for name, versions in allowed.items():
    try:
        with open(f"{base}/{name}", "rb") as f:
            got = f.read()
            stat = os.fstat(f.fileno())
    except FileNotFoundError:
        if 0 not in versions:
            print(f"{name} is gone, it should be of version {versions}")
            problems += 1
        continue
    if not any(v and got == content_of(name, v, size_of(name, v)) and
               stat.st_mode & 0o7777 == mode_of(name, v) and
               stat.st_mtime_ns == mtime_of(name, v) for v in versions):
        print(f"{name}: {len(got)} bytes, mode {stat.st_mode:o} are of none of the versions {versions}")
        problems += 1
stray = set(os.listdir(base)) - set(allowed)
for name in stray:
    if not (name.startswith(".") and name.endswith(".tmp")):
        print(f"{name} should not be there")
        problems += 1
sys.exit(1 if problems else 0)
