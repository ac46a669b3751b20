"""Write to a file, freeze the mount until its session has expired, and see the
bytes saved afterwards. Usage: freeze.py FILE PID-OF-THE-MOUNT SECONDS"""
import os
import signal
import sys
import time

path, pid, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
data = os.urandom(3 << 20)
fd = os.open(path, os.O_CREAT | os.O_RDWR)
os.pwrite(fd, data, 0)
os.kill(pid, signal.SIGSTOP)
time.sleep(seconds)
os.kill(pid, signal.SIGCONT)
end = time.monotonic() + 10
while True:
    try:
        os.fsync(fd)
        break
    except OSError:
        if time.monotonic() > end:
            raise
    time.sleep(0.1)
assert os.pread(fd, len(data), 0) == data
