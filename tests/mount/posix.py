"""Single calls against what POSIX and Linux promise. Usage: posix.py MOUNTPOINT

Each function is a claim; it gets a directory of its own."""
import ctypes
import errno
import fcntl
import mmap
import os
import stat
import struct
import sys
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 1, 2, 16


def renameat2(a, b, flags):
    if libc.renameat2(-100, a.encode(), -100, b.encode(), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def fails(error, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except OSError as e:
        assert e.errno == error, f"{call}{args}: {e}, wanted {errno.errorcode[error]}"
        return
    raise AssertionError(f"{call}{args} succeeded, wanted {errno.errorcode[error]}")


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def as_user(uid, groups, call):
    """The result of `call`, or its OSError, as another user."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups(groups)
        os.setgid(uid)
        os.setuid(uid)
        try:
            call()
            os.write(write_end, b"0")
        except OSError as e:
            os.write(write_end, b"%d" % e.errno)
        os._exit(0)
    os.close(write_end)
    error = int(os.read(read_end, 10))
    os.close(read_end)
    os.waitpid(pid, 0)
    if error != 0:
        raise OSError(error, f"as user {uid}")


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def create_is_exclusive(d):
    os.close(os.open(f"{d}/f", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640))
    fails(errno.EEXIST, os.open, f"{d}/f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    assert stat.S_IMODE(os.stat(f"{d}/f").st_mode) == 0o640


def names_have_255_bytes_at_most(d):
    write(f"{d}/{'x' * 255}", b"1")
    fails(errno.ENAMETOOLONG, os.open, f"{d}/{'x' * 256}", os.O_CREAT)
    odd = b"\xff\x01 \n'\"\\"
    write(d.encode() + b"/" + odd, b"odd")
    assert odd in os.listdir(d.encode())


def rename_replaces_atomically(d):
    write(f"{d}/a", b"new")
    write(f"{d}/b", b"old")
    with open(f"{d}/b", "rb") as held:
        os.rename(f"{d}/a", f"{d}/b")
        assert held.read() == b"old", "an open file must survive being replaced"
    assert read(f"{d}/b") == b"new"
    assert not os.path.exists(f"{d}/a")


def rename_flags(d):
    write(f"{d}/a", b"A")
    write(f"{d}/b", b"B")
    fails(errno.EEXIST, renameat2, f"{d}/a", f"{d}/b", RENAME_NOREPLACE)
    renameat2(f"{d}/a", f"{d}/b", RENAME_EXCHANGE)
    assert (read(f"{d}/a"), read(f"{d}/b")) == (b"B", b"A")
    renameat2(f"{d}/a", f"{d}/c", RENAME_NOREPLACE)
    fails(errno.ENOENT, renameat2, f"{d}/a", f"{d}/b", RENAME_EXCHANGE)
    fails(errno.EINVAL, renameat2, f"{d}/b", f"{d}/c", 0x80)


def rename_of_directories(d):
    os.makedirs(f"{d}/a/b/c")
    os.mkdir(f"{d}/empty")
    fails(errno.EINVAL, os.rename, f"{d}/a", f"{d}/a/b/x")
    fails(errno.ENOTEMPTY, os.rename, f"{d}/empty", f"{d}/a")
    os.rename(f"{d}/a/b", f"{d}/empty")
    assert os.listdir(f"{d}/empty") == ["c"]
    assert os.stat(f"{d}/a").st_nlink == 2
    write(f"{d}/f", b"")
    fails(errno.ENOTDIR, os.rename, f"{d}/empty", f"{d}/f")
    fails(errno.EISDIR, os.rename, f"{d}/f", f"{d}/empty")
    assert os.stat(f"{d}/empty/..").st_ino == os.stat(d).st_ino


def links_share_an_inode(d):
    write(f"{d}/a", b"x")
    os.mkdir(f"{d}/sub")
    os.link(f"{d}/a", f"{d}/sub/b")
    a, b = os.stat(f"{d}/a"), os.stat(f"{d}/sub/b")
    assert a.st_ino == b.st_ino and b.st_nlink == 2
    os.unlink(f"{d}/a")
    assert os.stat(f"{d}/sub/b").st_nlink == 1
    fails(errno.EPERM, os.link, f"{d}/sub", f"{d}/x")
    fails(errno.EEXIST, os.link, f"{d}/sub/b", f"{d}/sub/b")


def symlinks(d):
    os.symlink("no/where", f"{d}/s")
    assert os.readlink(f"{d}/s") == "no/where"
    os.utime(f"{d}/s", ns=(1, 1234567890123456789), follow_symlinks=False)
    assert os.lstat(f"{d}/s").st_mtime_ns == 1234567890123456789
    os.symlink("s2", f"{d}/s2")
    fails(errno.ELOOP, os.open, f"{d}/s2", os.O_RDONLY)
    long = "y" * 4000
    os.symlink(long, f"{d}/s3")
    assert os.readlink(f"{d}/s3") == long


def special_files(d):
    os.mkfifo(f"{d}/fifo", 0o600)
    assert stat.S_ISFIFO(os.stat(f"{d}/fifo").st_mode)
    if os.geteuid() == 0:
        os.mknod(f"{d}/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        s = os.stat(f"{d}/null")
        assert stat.S_ISCHR(s.st_mode) and s.st_rdev == os.makedev(1, 3)


def directories(d):
    os.mkdir(f"{d}/a")
    os.mkdir(f"{d}/a/b")
    assert os.stat(f"{d}/a").st_nlink == 3
    fails(errno.ENOTEMPTY, os.rmdir, f"{d}/a")
    fails(errno.EISDIR, os.unlink, f"{d}/a/b")
    os.rmdir(f"{d}/a/b")
    write(f"{d}/f", b"")
    fails(errno.ENOTDIR, os.rmdir, f"{d}/f")
    fails(errno.EEXIST, os.mkdir, f"{d}/a")
    fd = os.open(f"{d}/a", os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir(f"{d}/a")
    fails(errno.ENOENT, os.open, "x", os.O_CREAT, dir_fd=fd)
    os.close(fd)


def readdir_is_stable_while_entries_come_and_go(d):
    stay = {f"stay{i:04}" for i in range(2000)}
    for name in stay:
        write(f"{d}/{name}", b"")
    for i in range(2000):
        write(f"{d}/go{i:04}", b"")
    seen = []
    with os.scandir(d) as it:
        for n, entry in enumerate(it):
            seen.append(entry.name)
            if n % 3 == 0 and n // 3 < 2000:
                os.unlink(f"{d}/go{n // 3:04}")
                write(f"{d}/new{n:04}", b"")
    kept = [name for name in seen if name in stay]
    assert len(kept) == len(stay) and set(kept) == stay, "an entry was skipped or doubled"


def an_open_file_outlives_its_name(d):
    fd = os.open(f"{d}/f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"a" * 100000)
    os.unlink(f"{d}/f")
    assert os.fstat(fd).st_nlink == 0
    os.write(fd, b"b" * 100000)
    os.fsync(fd)
    assert os.pread(fd, 200000, 0) == b"a" * 100000 + b"b" * 100000
    os.ftruncate(fd, 5)
    assert os.pread(fd, 10, 0) == b"aaaaa"
    os.close(fd)
    assert os.listdir(d) == []


def times_are_exact(d):
    write(f"{d}/f", b"x")
    os.utime(f"{d}/f", ns=(987654321012345678, 1111111111222222222))
    s = os.stat(f"{d}/f")
    assert (s.st_atime_ns, s.st_mtime_ns) == (987654321012345678, 1111111111222222222)
    fd = os.open(f"{d}/f", os.O_RDWR)
    os.write(fd, b"yy")
    os.utime(fd, ns=(5, 6000000007))
    os.close(fd)
    assert os.stat(f"{d}/f").st_mtime_ns == 6000000007, "close moved an mtime that was set"
    before = time.time_ns()
    write(f"{d}/f", b"z")
    after = time.time_ns()
    assert before - 20000000 <= os.stat(f"{d}/f").st_mtime_ns <= after + 20000000
    m = os.stat(d).st_mtime_ns
    write(f"{d}/g", b"")
    assert os.stat(d).st_mtime_ns > m
    c = os.stat(f"{d}/f").st_ctime_ns
    os.chmod(f"{d}/f", 0o600)
    assert os.stat(f"{d}/f").st_ctime_ns > c


def modes_and_owners(d):
    write(f"{d}/f", b"x")
    os.chmod(f"{d}/f", 0o4755)
    assert stat.S_IMODE(os.stat(f"{d}/f").st_mode) == 0o4755
    if os.geteuid() != 0:
        return
    os.chown(f"{d}/f", 4000000000, 70000)
    s = os.stat(f"{d}/f")
    assert (s.st_uid, s.st_gid) == (4000000000, 70000)
    assert stat.S_IMODE(s.st_mode) == 0o755, "chown must clear setuid"
    os.mkdir(f"{d}/g")
    os.chown(f"{d}/g", 0, 500)
    os.chmod(f"{d}/g", 0o2775)
    os.mkdir(f"{d}/g/sub")
    write(f"{d}/g/f", b"")
    assert os.stat(f"{d}/g/f").st_gid == 500
    s = os.stat(f"{d}/g/sub")
    assert s.st_gid == 500 and s.st_mode & stat.S_ISGID


def setuid_and_setgid_do_not_survive_others_changes(d):
    if os.geteuid() != 0:
        return
    path = f"{d}/f"
    os.chmod(d, 0o777)
    write(f"{d}/source", b"s" * 100)

    def open_and(change):
        fd = os.open(path, os.O_RDWR)
        change(fd)
        os.close(fd)

    def copy(fd):
        source = os.open(f"{d}/source", os.O_RDONLY)
        assert os.copy_file_range(source, fd, 50, 0, 0) == 50
        os.close(source)

    changes = {
        "write": lambda: open_and(lambda fd: os.write(fd, b"y")),
        "truncate": lambda: os.truncate(path, 10),
        "O_TRUNC": lambda: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
        "fallocate": lambda: open_and(lambda fd: fallocate(fd, 0, 0, 2000)),
        "punch": lambda: open_and(lambda fd: fallocate(fd, 3, 0, 50)),
        "copy_file_range": lambda: open_and(copy),
    }
    #        before   by others  by a member of the group, by root
    table = [(0o6777, 0o777, 0o777, 0o6777),
             (0o6767, 0o767, 0o2767, 0o6767),
             (0o2666, 0o666, 0o2666, 0o2666)]
    for before, *after in table:
        for name, change in changes.items():
            users = [lambda: as_user(2000, [], change), lambda: as_user(2000, [1000], change), change]
            for user, wanted in zip(users, after):
                write(path, b"x" * 1000)
                os.chown(path, 1000, 1000)
                os.chmod(path, before)
                user()
                assert mode_of(path) == wanted, f"{name} of {before:o}: {mode_of(path):o}, not {wanted:o}"
                os.unlink(path)


def permissions_hold(d):
    if os.geteuid() != 0:
        return
    write(f"{d}/f", b"secret")
    os.chmod(f"{d}/f", 0o600)
    os.chmod(d, 0o755)
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(12345)
        os.setuid(12345)
        try:
            fails(errno.EACCES, os.open, f"{d}/f", os.O_RDONLY)
            fails(errno.EACCES, os.open, f"{d}/x", os.O_CREAT)
            os._exit(0)
        except BaseException as e:
            print(e)
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def umask_applies(d):
    old = os.umask(0o027)
    os.close(os.open(f"{d}/f", os.O_CREAT, 0o666))
    os.mkdir(f"{d}/d", 0o777)
    os.umask(old)
    assert stat.S_IMODE(os.stat(f"{d}/f").st_mode) == 0o640
    assert stat.S_IMODE(os.stat(f"{d}/d").st_mode) == 0o750


def xattrs(d):
    write(f"{d}/f", b"x")
    fails(errno.ENODATA, os.getxattr, f"{d}/f", "user.a")
    os.setxattr(f"{d}/f", "user.a", b"1")
    fails(errno.EEXIST, os.setxattr, f"{d}/f", "user.a", b"2", os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, f"{d}/f", "user.b", b"2", os.XATTR_REPLACE)
    os.setxattr(f"{d}/f", "user.b", b"v" * 60000)
    os.setxattr(f"{d}/f", "user.empty", b"")
    assert sorted(os.listxattr(f"{d}/f")) == ["user.a", "user.b", "user.empty"]
    assert os.getxattr(f"{d}/f", "user.b") == b"v" * 60000
    assert os.getxattr(f"{d}/f", "user.empty") == b""
    os.removexattr(f"{d}/f", "user.a")
    fails(errno.ENODATA, os.removexattr, f"{d}/f", "user.a")
    for name in ("user.", "security."):
        fails(errno.EINVAL, os.setxattr, f"{d}/f", name, b"1")
    fails(errno.EOPNOTSUPP, os.setxattr, f"{d}/f", "odd.a", b"1")
    fails(errno.ERANGE, os.setxattr, f"{d}/f", "user." + "n" * 251, b"1")


# Version 2 of the kernel's form: tag, permissions, id of each entry.
def acl(*entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


def acls_and_the_mode_follow_each_other(d):
    name = "system.posix_acl_access"
    write(f"{d}/f", b"x")
    os.chmod(f"{d}/f", 0o640)
    os.removexattr(f"{d}/f", name)  # none there: no error
    os.removexattr(d, "system.posix_acl_default")
    os.setxattr(f"{d}/f", name, acl((1, 6, 2**32 - 1), (2, 6, 1000), (4, 4, 2**32 - 1),
                                    (16, 6, 2**32 - 1), (32, 0, 2**32 - 1)))
    assert mode_of(f"{d}/f") == 0o660, "the mask is the group's part of the mode"
    os.chmod(f"{d}/f", 0o600)
    assert os.getxattr(f"{d}/f", name)[4 + 3 * 8 + 2] == 0, "chmod sets the mask"
    os.removexattr(f"{d}/f", name)
    assert os.listxattr(f"{d}/f") == []
    if os.geteuid() != 0:
        return
    minimal = acl((1, 7, 2**32 - 1), (4, 5, 2**32 - 1), (32, 5, 2**32 - 1))
    for groups, wanted in (([], 0o755), ([5000], 0o2755)):
        os.chown(f"{d}/f", 1000, 5000)
        os.chmod(f"{d}/f", 0o2755)
        as_user(1000, groups, lambda: os.setxattr(f"{d}/f", name, minimal))
        assert mode_of(f"{d}/f") == wanted, f"{mode_of(f'{d}/f'):o}, not {wanted:o}"


def sparse_files(d):
    fd = os.open(f"{d}/f", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"a" * 100000, 10 << 20)
    os.pwrite(fd, b"b" * 100000, 100 << 20)
    os.ftruncate(fd, 1 << 40)
    os.fsync(fd)
    s = os.fstat(fd)
    assert s.st_size == 1 << 40 and 200000 <= s.st_blocks * 512 < 1 << 20, s
    assert os.pread(fd, 10, 5 << 20) == bytes(10)
    assert os.lseek(fd, 0, os.SEEK_DATA) <= 10 << 20
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
    assert 10 << 20 < os.lseek(fd, 10 << 20, os.SEEK_HOLE) <= 11 << 20
    assert 99 << 20 < os.lseek(fd, 12 << 20, os.SEEK_DATA) <= 100 << 20
    fails(errno.ENXIO, os.lseek, fd, 1 << 40, os.SEEK_DATA)
    fails(errno.ENXIO, os.lseek, fd, 101 << 20, os.SEEK_DATA)
    os.pwrite(fd, b"end", (1 << 62))
    assert os.fstat(fd).st_size == (1 << 62) + 3
    os.close(fd)


def fallocate_modes(d):
    fd = os.open(f"{d}/f", os.O_CREAT | os.O_RDWR)
    fallocate(fd, 0, 0, 100)
    assert os.fstat(fd).st_size == 100
    fallocate(fd, FALLOC_KEEP_SIZE, 0, 1 << 20)
    assert os.fstat(fd).st_size == 100
    data = os.urandom(3 << 20)
    os.pwrite(fd, data, 0)
    fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 1000, 1 << 20)
    data = data[:1000] + bytes(1 << 20) + data[1000 + (1 << 20):]
    assert os.pread(fd, 4 << 20, 0) == data
    fallocate(fd, FALLOC_ZERO_RANGE, (3 << 20) - 10, 20)
    data = data[:-10] + bytes(20)
    assert os.pread(fd, 4 << 20, 0) == data
    fails(errno.EOPNOTSUPP, fallocate, fd, 8, 0, 4096)
    os.close(fd)


def truncate_then_extend_reads_zeros(d):
    for size in (100, 50000, 3 << 20):
        write(f"{d}/f", b"x" * size)
        os.truncate(f"{d}/f", size // 2)
        os.truncate(f"{d}/f", size)
        assert read(f"{d}/f") == b"x" * (size // 2) + bytes(size - size // 2)


def appends_do_not_overwrite(d):
    a = os.open(f"{d}/f", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    b = os.open(f"{d}/f", os.O_WRONLY | os.O_APPEND)
    for i in range(500):
        os.write(a if i % 2 else b, b"%06d\n" % i)
    os.close(a)
    os.close(b)
    assert read(f"{d}/f") == b"".join(b"%06d\n" % i for i in range(500))


def many_threads_on_one_file(d):
    fd = os.open(f"{d}/f", os.O_CREAT | os.O_RDWR)

    def work(t):
        for i in range(100):
            os.pwrite(fd, bytes([t]) * 5000, (i * 8 + t) * 5000)

    threads = [threading.Thread(target=work, args=(t,)) for t in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    os.fsync(fd)
    data = os.pread(fd, 5000 * 800, 0)
    for n in range(800):
        assert data[n * 5000:(n + 1) * 5000] == bytes([n % 8]) * 5000, n
    os.close(fd)


def mmap_shared_writes_arrive(d):
    write(f"{d}/f", bytes(300000))
    fd = os.open(f"{d}/f", os.O_RDWR)
    m = mmap.mmap(fd, 300000)
    m[250000:250005] = b"hello"
    m.flush()
    m.close()
    os.close(fd)
    assert read(f"{d}/f")[250000:250005] == b"hello"


def direct_io(d):
    fd = os.open(f"{d}/f", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    m = mmap.mmap(-1, 1 << 20)
    m[:] = os.urandom(1 << 20)
    os.writev(fd, [m])
    n = mmap.mmap(-1, 1 << 20)
    os.preadv(fd, [n], 0)
    assert m[:] == n[:]
    os.close(fd)


def clones_share_and_then_part(d):
    data = os.urandom(5 << 20)
    write(f"{d}/a", data)
    a = os.open(f"{d}/a", os.O_RDWR)
    b = os.open(f"{d}/b", os.O_CREAT | os.O_RDWR)
    done = 0
    while done < len(data):
        done += os.copy_file_range(a, b, len(data) - done, done, done)
    os.pwrite(a, b"changed", 1000)
    assert os.pread(b, len(data), 0) == data
    assert os.copy_file_range(a, b, 100, 990, 7) == 100
    want = data[:7] + data[990:1000] + b"changed" + data[1007:1090] + data[107:]
    assert os.pread(b, len(data), 0) == want
    os.close(a)
    os.close(b)
    write(f"{d}/s", b"small")
    s = os.open(f"{d}/s", os.O_RDONLY)
    t = os.open(f"{d}/t", os.O_CREAT | os.O_RDWR)
    assert os.copy_file_range(s, t, 1 << 30) == 5
    os.close(s)
    os.close(t)
    assert read(f"{d}/t") == b"small"


def locks_work_on_one_host(d):
    write(f"{d}/f", b"x")
    a, b = open(f"{d}/f", "rb+"), open(f"{d}/f", "rb+")
    fcntl.flock(a, fcntl.LOCK_EX)
    fails(errno.EWOULDBLOCK, fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    a.close()
    fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    b.close()


def fsync_of_files_and_directories(d):
    fd = os.open(f"{d}/f", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"x" * 20000)
    os.fdatasync(fd)
    os.fsync(fd)
    os.close(fd)
    fd = os.open(d, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    fd = os.open(f"{d}/g", os.O_CREAT | os.O_WRONLY | os.O_SYNC)
    os.write(fd, b"y" * 20000)
    os.close(fd)


def what_is_set_of_a_new_file_stays(d):
    fd = os.open(f"{d}/f", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)

    def check(mode, mtime, nlink=1):
        for s in os.fstat(fd), os.stat(f"{d}/f"):
            assert (s.st_mode & 0o7777, s.st_uid, s.st_gid) == (mode, 5, 6), s
            assert s.st_atime_ns == 11 and s.st_nlink == nlink, s
            assert mtime is None or s.st_mtime_ns == mtime, s

    os.write(fd, b"x" * 5000)
    before = time.time_ns()
    os.utime(fd, ns=(11, 22))
    os.fchown(fd, 5, 6)
    os.fchmod(fd, 0o640)
    check(0o640, 22)
    assert os.stat(f"{d}/f").st_ctime_ns >= before - 50_000_000
    os.write(fd, b"y")
    assert os.fstat(fd).st_mtime_ns > before - 50_000_000, "a write after utimes moves mtime"
    os.utime(fd, ns=(11, 33))
    os.link(f"{d}/f", f"{d}/g")
    check(0o640, 33, 2)
    os.chmod(f"{d}/g", 0o604)
    os.setxattr(fd, "user.a", b"b")
    check(0o604, 33, 2)
    os.fchmod(fd, 0o4755)
    check(0o4755, 33, 2)
    os.close(fd)
    s = os.stat(f"{d}/g")
    assert (s.st_mode & 0o7777, s.st_uid, s.st_mtime_ns, s.st_size) == (0o4755, 5, 33, 5001), s


def inode_numbers_are_stable(d):
    write(f"{d}/f", b"x")
    ino = os.stat(f"{d}/f").st_ino
    os.rename(f"{d}/f", f"{d}/g")
    write(f"{d}/g", b"yy" * 50000)
    assert os.stat(f"{d}/g").st_ino == ino
    assert [e.inode() for e in os.scandir(d)] == [ino]


def statvfs_is_sane(d):
    s = os.statvfs(d)
    assert s.f_namemax == 255 and s.f_blocks >= s.f_bfree >= s.f_bavail > 0


claims = [f for name, f in list(globals().items())
          if callable(f) and getattr(f, "__code__", None) and f.__code__.co_varnames[:1] == ("d",)]
base = sys.argv[1]
for claim in claims:
    print(claim.__name__, flush=True)
    path = f"{base}/{claim.__name__}"
    os.mkdir(path)
    claim(path)
print(f"{len(claims)} claims hold")
