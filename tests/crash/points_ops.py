# SPDX-License-Identifier: GPL-2.0-or-later
"""The operations that points.py walks.

Each is a generator: it makes a known state and yields; then (a crash point is armed now) comes
the operation, with a look at what the program itself was told, and the second yield; then (the
server has died and was replaced) it looks at what is there now. Any exception is a violation.
"""
import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import stat
import struct
import subprocess
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
F_OFD_SETLK = 37
KEEP, PUNCH, ZERO = 1, 2, 16
NOREPLACE, EXCHANGE = 1, 2
ENCRYPT, DERIVED, PLAIN = "", ".part", ".pass"
OPS = []


class Op:
    def __init__(self, name, fn, settle, patience, slow):
        self.name, self.fn, self.settle, self.patience = name, fn, settle, patience
        self.slow = slow


def op(*variants, settle=0.012, patience=0, slow=False):
    """Registers a generator; one operation for each variant (passed as its arguments)."""
    def register(fn):
        for v in variants or ((),):
            v = v if isinstance(v, tuple) else (v,)
            tags = {ENCRYPT: "encrypt", DERIVED: "derived", PLAIN: "plain"}
            name = "-".join([fn.__name__, *(tags.get(x, str(x)) for x in v)])
            OPS.append(Op(name, lambda ops, v=v: fn(ops, *v), settle, patience, slow))
        return fn
    return register


def check(good, text):
    if not good:
        raise AssertionError(text)


def equal(what, wanted, got):
    if isinstance(wanted, bytes) and wanted != got:
        at = next((i for i, (a, b) in enumerate(zip(wanted, got)) if a != b), "the end")
        raise AssertionError(f"{what}: {len(wanted)} bytes wanted, {len(got)} found, "
                             f"the first difference at {at}")
    check(wanted == got, f"{what}: wanted {wanted!r}, got {got!r}")


@contextlib.contextmanager
def fails(code):
    try:
        yield
    except OSError as e:
        equal("errno", errno.errorcode[code], errno.errorcode[e.errno])
    else:
        raise AssertionError(f"succeeded, but {errno.errorcode[code]} was due")


def call(fn, *args):
    rc = fn(*args)
    if rc < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return rc


def fallocate(fd, mode, off, length):
    call(libc.fallocate, fd, mode, ctypes.c_long(off), ctypes.c_long(length))


def rename2(old, new, flags):
    call(libc.renameat2, AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags)


def pattern(seed, length):
    line = bytes((seed * 7 + i * 31 + (i >> 8) * 13) & 255 for i in range(1021))
    return (line * (length // len(line) + 1))[:length]


def aligned(data=b"", size=0):
    buf = mmap.mmap(-1, max(len(data), size, 4096))
    buf.write(data)
    return buf


def direct_content(path):
    """Past the page cache: as the daemon has it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        buf, out = aligned(size=1 << 20), b""
        while n := os.preadv(fd, [buf], len(out)):
            out += buf[:n]
            if n % 4096:
                break
        return out
    finally:
        os.close(fd)


def fresh_stat(path_or_fd):
    """(size, links, mode) as the daemon says now, not as the kernel remembers."""
    buf = ctypes.create_string_buffer(256)
    if isinstance(path_or_fd, int):
        call(libc.statx, path_or_fd, b"", 0x1000 | 0x2000, 0x7ff, buf)
    else:
        call(libc.statx, AT_FDCWD, os.fsencode(path_or_fd), 0x100 | 0x2000, 0x7ff, buf)
    links, = struct.unpack_from("I", buf, 16)
    mode, = struct.unpack_from("H", buf, 28)
    size, = struct.unpack_from("Q", buf, 40)
    return size, links, mode


def size_of(path_or_fd):
    return fresh_stat(path_or_fd)[0]


def is_luks(path):
    with open(path, "rb") as f:
        return f.read(4) == b"LUKS"


def wiped(f, text):
    """It may take a little: programs do not wait for it."""
    end = time.monotonic() + 10
    while os.pread(f.fileno(), 4, 0) == b"LUKS":
        check(time.monotonic() < end, text)
        time.sleep(0.002)


class Ops:
    """What operations use; `new` names a file in the mount, `below` the same one below it."""

    def __init__(self, workdir, control):
        self.workdir, self.control = workdir, control
        self.root = workdir + "/mnt"
        self.dir = self.root + "/walk"
        self.n = 0
        self.fds, self.kept_fds = [], {}
        self.cold_left, self.cold_used, self.to_refill = [], [], []
        self.orphans = set()

    def start(self):
        os.mkdir(self.dir)
        self.fill(self.new(DERIVED), b"warm")

    def begin(self, _op):
        self.n += 1

    def clean(self):
        for fd in self.fds:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.fds = []
        while self.to_refill:
            p = self.to_refill.pop()
            self.fill(p, self.cold_data(p))

    SAMPLE_CNT = 60

    def end(self):
        """Some are removed, with what that entails; the others stay, and so do their secrets."""
        for fd in self.kept_fds.values():
            os.close(fd)
        files = sorted(e.path for e in os.scandir(self.dir) if not e.is_dir(follow_symlinks=False))
        for p in files[::max(1, len(files) // self.SAMPLE_CNT)]:
            os.unlink(p)

    def new(self, ext="", tag="f"):
        return f"{self.dir}/{tag}{self.n}{ext}"

    def below(self, path):
        return self.workdir + "/back" + path[len(self.root):]

    def open(self, path, flags=os.O_RDWR, mode=0o644):
        fd = os.open(path, flags, mode)
        self.fds.append(fd)
        return fd

    def close(self, fd):
        self.fds.remove(fd)
        os.close(fd)

    def fill(self, path, data):
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            while data:
                data = data[os.write(fd, data):]
        finally:
            os.close(fd)
        return path

    def empty_below(self, path):
        """A file that the kernel has not looked up through the mount."""
        with open(self.below(path), "xb"):
            return path

    def kept(self, name, ext, data, flags=os.O_RDWR):
        """A file that stays, open in this way, with this content again. (path, fd)"""
        path = f"{self.dir}/kept-{name}{ext}"
        key = (path, flags)
        if key not in self.kept_fds:
            if not os.path.exists(path):
                self.fill(path, data)
            self.kept_fds[key] = os.open(path, flags)
        with open(path, "r+b", buffering=0) as f:
            f.truncate(0)
            f.write(data)
        return path, self.kept_fds[key]

    def kill(self):
        """A death now; returns when the next server answers."""
        self.control.arm("request-begun")
        with contextlib.suppress(FileNotFoundError):
            os.stat(self.dir + "/nobody")
        check(self.control.wait_fired(5), "no server dies")

    def server_pid(self):
        """Of the one that passed a point last."""
        os.stat(self.empty_below(self.new(PLAIN, "p")))
        with open(self.control.trace, encoding="ascii") as f:
            return int(f.read().split()[-2])

    COLD_CNT = 24

    def cold(self):
        """A container of 9000 bytes that nobody has open and whose key is not there."""
        if not self.cold_left:
            self.cool_down()
        path = self.cold_left.pop()
        self.cold_used.append(path)
        return path

    def cool_down(self):
        """A key whose image nobody has open, nor the kernel knows of, does not outlive a server."""
        self.cold_used = self.cold_used or [
            self.fill(f"{self.dir}/cold{i}", pattern(i, 9000)) for i in range(self.COLD_CNT)]
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
            f.write("2")
        self.control.quiet()
        self.kill()
        self.cold_left, self.cold_used = self.cold_used, []

    def cold_data(self, path):
        return pattern(int(path.rpartition("cold")[2]), 9000)


# --- names: looking up and making ---

@op(ENCRYPT, DERIVED, PLAIN)
def lookup(w, ext):
    p = w.empty_below(w.new(ext))
    yield
    st = os.stat(p)
    yield
    check(stat.S_ISREG(st.st_mode) and st.st_size == 0, "not an empty file")
    check(os.stat(p).st_ino == st.st_ino, "another inode")


@op()
def lookup_folder(w):
    p = w.new(tag="d")
    os.mkdir(w.below(p))
    w.empty_below(p + "/x")
    yield
    st = os.stat(p + "/x")
    yield
    check(stat.S_ISREG(st.st_mode), "not a file")


@op()
def lookup_missing(w):
    yield
    with fails(errno.ENOENT):
        os.stat(w.new())
    yield


@op((ENCRYPT, 0), (DERIVED, 0), (PLAIN, 0), (ENCRYPT, os.O_DIRECT), (PLAIN, os.O_DIRECT),
    (ENCRYPT, os.O_APPEND), (ENCRYPT, os.O_TRUNC))
def create(w, ext, flags):
    p = w.new(ext)
    yield
    fd = w.open(p, os.O_RDWR | os.O_CREAT | os.O_EXCL | flags, 0o640)
    equal("size", 0, os.fstat(fd).st_size)
    yield
    equal("mode", 0o100640, fresh_stat(p)[2])
    equal("size below", 0, os.stat(w.below(p)).st_size)
    equal("written", 4096, os.writev(fd, [aligned(pattern(w.n, 4096))]))
    equal("content", pattern(w.n, 4096), direct_content(p))


@op(0, os.O_TRUNC, os.O_DIRECT)
def create_existing(w, flags):
    p, _ = w.kept("existing", ENCRYPT, pattern(3, 5000))
    yield
    fd = w.open(p, os.O_RDWR | os.O_CREAT | flags, 0o600)
    yield
    wanted = b"" if flags & os.O_TRUNC else pattern(3, 5000)
    equal("size", len(wanted), size_of(fd))
    equal("content", wanted, direct_content(p))


@op()
def create_excl_existing(w):
    p = w.empty_below(w.new())
    yield
    with fails(errno.EEXIST):
        w.open(p, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    yield
    equal("size", 0, size_of(p))


@op()
def mkdir(w):
    p = w.new(tag="d")
    yield
    os.mkdir(p, 0o750)
    yield
    equal("mode", 0o40750, fresh_stat(p)[2])
    w.fill(p + "/x" + PLAIN, b"x")


@op()
def mkdir_existing(w):
    p = w.new(tag="d")
    os.mkdir(w.below(p))
    yield
    with fails(errno.EEXIST):
        os.mkdir(p)
    yield


@op()
def rmdir(w):
    p = w.new(tag="d")
    os.mkdir(p)
    yield
    os.rmdir(p)
    yield
    check(not os.path.exists(w.below(p)), "still there")


@op()
def rmdir_filled(w):
    p = w.new(tag="d")
    os.mkdir(p)
    w.empty_below(p + "/x")
    yield
    with fails(errno.ENOTEMPTY):
        os.rmdir(p)
    yield
    check(os.path.exists(p + "/x"), "gone")


@op()
def mkfifo(w):
    p = w.new(tag="p")
    yield
    os.mkfifo(p, 0o600)
    yield
    equal("mode", 0o10600, fresh_stat(p)[2])


@op()
def mknod_refused(w):
    p = w.new(tag="p")
    yield
    with fails(errno.EPERM):
        os.mknod(p, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    yield


@op()
def mknod(w):
    p = w.new(PLAIN)
    yield
    os.mknod(p, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    yield
    equal("mode", 0o20600, fresh_stat(p)[2])
    equal("number", os.makedev(1, 3), os.lstat(w.below(p)).st_rdev)


@op()
def symlink(w):
    p = w.new(tag="s")
    yield
    os.symlink("some/where", p)
    yield
    equal("target", "some/where", os.readlink(w.below(p)))


@op()
def readlink(w):
    p = w.new(tag="s")
    os.symlink("else/where", w.below(p))
    yield
    equal("target", "else/where", os.readlink(p))
    yield
    equal("target", "else/where", os.readlink(p))


@op(ENCRYPT, PLAIN)
def link(w, ext):
    p = w.empty_below(w.new(ext))
    os.stat(p)
    yield
    os.link(p, w.new(ext, "l"))
    yield
    equal("links", 2, os.stat(w.below(p)).st_nlink)
    equal("inode", os.stat(p).st_ino, os.stat(w.new(ext, "l")).st_ino)


@op()
def link_existing(w):
    p = w.empty_below(w.new())
    q = w.empty_below(w.new(tag="l"))
    yield
    with fails(errno.EEXIST):
        os.link(p, q)
    yield
    equal("links", 1, os.stat(w.below(p)).st_nlink)


@op()
def link_exdev(w):
    p = w.empty_below(w.new())
    yield
    with fails(errno.EXDEV):
        os.link(p, w.new(PLAIN))
    yield
    equal("links", 1, os.stat(w.below(p)).st_nlink)


# --- removing ---

@op(ENCRYPT, DERIVED, PLAIN, settle=0.08)
def unlink(w, ext):
    p = w.fill(w.new(ext), b"to be removed")
    with open(w.below(p), "rb") as f:
        yield
        os.unlink(p)
        yield
        check(not os.path.exists(w.below(p)), "still there")
        if ext != PLAIN:
            wiped(f, "its header is not wiped")


@op()
def unlink_empty(w):
    p = w.empty_below(w.new())
    os.stat(p)
    yield
    os.unlink(p)
    yield
    check(not os.path.exists(w.below(p)), "still there")


@op()
def unlink_missing(w):
    yield
    with fails(errno.ENOENT):
        os.unlink(w.new())
    yield


@op(settle=0.08)
def unlink_linked(w):
    """The first of two names, then the last one."""
    p = w.fill(w.new(), pattern(1, 700))
    q = w.new(tag="l")
    os.link(p, q)
    with open(w.below(p), "rb") as f:
        yield
        os.unlink(p)
        equal("content", pattern(1, 700), direct_content(q))
        os.unlink(q)
        yield
        check(not os.path.exists(w.below(q)), "still there")
        wiped(f, "its header is not wiped")


@op()
def unlink_open(w):
    p = w.fill(w.new(), pattern(2, 5000))
    fd = w.open(p)
    yield
    os.unlink(p)
    yield
    check(not os.path.exists(w.below(p)), "still there")
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    equal("content", pattern(2, 5000), os.pread(fd, 9000, 0))
    equal("links", 0, fresh_stat(fd)[1])


@op(settle=0.08)
def close_unlinked(w):
    p = w.fill(w.new(), pattern(2, 5000))
    fd = w.open(p)
    with open(w.below(p), "rb") as f:
        os.unlink(p)
        yield
        w.close(fd)
        yield
        wiped(f, "its header is not wiped")


@op()
def write_unlinked(w):
    p = w.fill(w.new(), pattern(2, 5000))
    fd = w.open(p)
    os.unlink(p)
    yield
    equal("written", 6000, os.pwrite(fd, pattern(9, 6000), 3000))
    yield
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    equal("content", pattern(2, 3000) + pattern(9, 6000), os.pread(fd, 20000, 0))


@op(settle=0.05)
def first_write_unlinked(w):
    """The header is made after the last name went."""
    p = w.new()
    fd = w.open(p, os.O_RDWR | os.O_CREAT)
    os.unlink(p)
    yield
    equal("written", 300, os.pwrite(fd, pattern(9, 300), 0))
    yield
    equal("content", pattern(9, 300), os.pread(fd, 20000, 0))


@op()
def forget(w):
    p = w.empty_below(w.new(PLAIN))
    os.stat(p)
    yield
    os.unlink(p)
    yield


@op(settle=0.05, slow=True)
def forget_many(w):
    d = w.new(tag="d")
    os.mkdir(d)
    for i in range(8):
        os.stat(w.empty_below(f"{d}/{i}"))
    yield
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("2")
    yield
    for i in range(8):
        equal("size", 0, os.stat(f"{d}/{i}").st_size)


# --- renaming ---

@op(ENCRYPT, PLAIN, DERIVED)
def rename(w, ext):
    p, q = w.empty_below(w.new(ext)), w.new(ext, "r")
    ino = os.stat(p).st_ino
    yield
    os.rename(p, q)
    yield
    check(not os.path.exists(p), "the old name is there")
    equal("inode", ino, os.stat(q).st_ino)
    w.fill(q, b"goes on")
    equal("content", b"goes on", direct_content(q))


def gets_own(w, name):
    """Its token comes to say that its secret is its own: when it is opened at the latest, for a
    server that dies in the background forgets what it was at."""
    path, end = w.below(name), time.monotonic() + 20
    opened = time.monotonic()
    while True:
        if time.monotonic() > opened + 1:
            opened = time.monotonic()
            direct_content(name)
        with open(path, "rb") as f:
            head = f.read(32768)
        if b'"derived":false' in head and b'"derived":true' not in head:
            return
        check(time.monotonic() < end, "it has no secret of its own")
        time.sleep(0.01)


@op("closed", "open", settle=0.5)
def promote(w, how):
    p, q = w.fill(w.new(DERIVED), pattern(6, 600)), w.new(tag="r")
    fd = w.open(p) if how == "open" else -1
    yield
    os.rename(p, q)
    yield
    equal("content", pattern(6, 600), direct_content(q))
    if fd >= 0:
        os.pwrite(fd, b"more", 600)
        w.close(fd)
    gets_own(w, q)
    equal("content", pattern(6, 600), direct_content(q)[:600])


@op(settle=0.08)
def rename_over(w):
    p, q = w.fill(w.new(), pattern(4, 600)), w.fill(w.new(tag="r"), pattern(5, 600))
    with open(w.below(q), "rb") as f:
        yield
        os.rename(p, q)
        yield
        check(not os.path.exists(p), "the old name is there")
        equal("content", pattern(4, 600), direct_content(q))
        wiped(f, "the header of what was replaced is not wiped")


@op(settle=0.08)
def rename_over_open(w):
    p, q = w.fill(w.new(), pattern(4, 600)), w.fill(w.new(tag="r"), pattern(5, 600))
    fd = w.open(q)
    with open(w.below(q), "rb") as f:
        yield
        os.rename(p, q)
        yield
        equal("content", pattern(4, 600), direct_content(q))
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        equal("the open one", pattern(5, 600), os.pread(fd, 900, 0))
        w.close(fd)
        wiped(f, "the header of what was replaced is not wiped")


@op()
def rename_over_plain(w):
    p, q = w.fill(w.new(PLAIN), b"new"), w.fill(w.new(PLAIN, "r"), b"old")
    yield
    os.rename(p, q)
    yield
    check(not os.path.exists(p), "the old name is there")
    equal("content", b"new", direct_content(q))


@op()
def rename_itself(w):
    p = w.empty_below(w.new())
    yield
    os.rename(p, p)
    yield
    check(os.path.exists(p), "gone")


@op()
def rename_hard_link(w):
    p, q = w.empty_below(w.new()), w.new(tag="l")
    os.link(p, q)
    yield
    os.rename(p, q)
    yield
    equal("links", 2, os.stat(w.below(p)).st_nlink)


@op()
def rename_noreplace(w):
    p, q = w.empty_below(w.new()), w.new(tag="r")
    yield
    rename2(p, q, NOREPLACE)
    yield
    check(os.path.exists(q) and not os.path.exists(p), "not renamed")


@op()
def rename_noreplace_existing(w):
    p, q = w.empty_below(w.new()), w.empty_below(w.new(tag="r"))
    yield
    with fails(errno.EEXIST):
        rename2(p, q, NOREPLACE)
    yield
    check(os.path.exists(q) and os.path.exists(p), "renamed")


@op()
def rename_exchange(w):
    p, q = w.empty_below(w.new()), w.empty_below(w.new(tag="r"))
    a, b = os.stat(p).st_ino, os.stat(q).st_ino
    yield
    rename2(p, q, EXCHANGE)
    yield
    equal("inodes", (b, a), (os.stat(w.below(p)).st_ino, os.stat(w.below(q)).st_ino))
    equal("inodes above", (b, a), (os.stat(p).st_ino, os.stat(q).st_ino))


@op()
def rename_exchange_folder(w):
    p, q = w.empty_below(w.new()), w.new(tag="d")
    os.mkdir(q)
    w.empty_below(q + "/x")
    yield
    rename2(p, q, EXCHANGE)
    yield
    check(os.path.exists(p + "/x") and stat.S_ISREG(os.stat(q).st_mode), "not exchanged")


@op()
def rename_folder(w):
    p, q = w.new(tag="d"), w.new(tag="e")
    os.mkdir(p)
    w.fill(p + "/x", pattern(6, 800))
    fd = w.open(p + "/x")
    yield
    os.rename(p, q)
    yield
    check(not os.path.exists(p), "the old name is there")
    equal("content", pattern(6, 800), direct_content(q + "/x"))
    equal("written", 3, os.pwrite(fd, b"abc", 800))
    equal("content", pattern(6, 800) + b"abc", direct_content(q + "/x"))


@op()
def rename_over_folder(w):
    p, q = w.new(tag="d"), w.new(tag="e")
    os.mkdir(p)
    os.mkdir(q)
    w.empty_below(p + "/x")
    yield
    os.rename(p, q)
    yield
    check(os.path.exists(q + "/x") and not os.path.exists(p), "not renamed")


@op()
def rename_exdev(w):
    p = w.empty_below(w.new())
    yield
    with fails(errno.EXDEV):
        os.rename(p, w.new(PLAIN))
    yield
    check(os.path.exists(p), "gone")


# --- the first byte ---

@op(ENCRYPT, DERIVED, PLAIN, settle=0.05)
def first_write(w, ext):
    p = w.new(ext)
    fd = w.open(p, os.O_RDWR | os.O_CREAT)
    yield
    equal("written", 5000, os.write(fd, pattern(7, 5000)))
    yield
    equal("content", pattern(7, 5000), direct_content(p))
    equal("class", ext != PLAIN, is_luks(w.below(p)))


@op(settle=0.05)
def first_write_direct(w):
    p = w.new()
    fd = w.open(p, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    yield
    equal("written", 8192, os.writev(fd, [aligned(pattern(7, 8192))]))
    yield
    equal("content", pattern(7, 8192), direct_content(p))


@op(ENCRYPT, DERIVED, PLAIN, settle=0.05)
def first_truncate(w, ext):
    p = w.empty_below(w.new(ext))
    yield
    os.truncate(p, 10001)
    yield
    equal("size", 10001, size_of(p))
    equal("content", bytes(10001), direct_content(p))
    equal("class", ext != PLAIN, is_luks(w.below(p)))


@op(settle=0.05)
def first_ftruncate(w):
    p = w.new()
    fd = w.open(p, os.O_RDWR | os.O_CREAT)
    yield
    os.ftruncate(fd, 77)
    yield
    equal("content", bytes(77), direct_content(p))


@op((ENCRYPT, 0), (DERIVED, 0), (PLAIN, 0), (ENCRYPT, KEEP), settle=0.05)
def first_fallocate(w, ext, mode):
    p = w.new(ext)
    fd = w.open(p, os.O_RDWR | os.O_CREAT)
    yield
    fallocate(fd, mode, 0, 20000)
    yield
    size = 0 if mode else 20000
    equal("size", size, size_of(fd))
    equal("content", bytes(size), direct_content(p))
    equal("class", ext != PLAIN, is_luks(w.below(p)))


@op(settle=0.05, patience=4, slow=True)
def first_write_site(w):
    """The first derived image of all: the site's secret is made."""
    path = next((os.path.join(d, "site") for d, _, names in os.walk(w.workdir + "/state")
                 if "site" in names), None)
    if path:
        with open(path, encoding="ascii") as f:
            w.orphans.add(f.read().split()[1])
        os.unlink(path)
        w.kill()
    p = w.new(DERIVED)
    fd = w.open(p, os.O_RDWR | os.O_CREAT)
    yield
    equal("written", 9, os.write(fd, b"by a site"))
    yield
    equal("content", b"by a site", direct_content(p))
    check(is_luks(w.below(p)), "not a container")


@op(settle=0.05)
def first_two(w):
    """Two writers of an empty image at once."""
    p = w.new()
    fds = [w.open(p, os.O_RDWR | os.O_CREAT) for _ in range(2)]
    yield
    at_once(lambda: equal("written", 500, os.pwrite(fds[0], pattern(1, 500), 0)),
            lambda: equal("written", 500, os.pwrite(fds[1], pattern(2, 500), 500)))
    yield
    equal("content", pattern(1, 500) + pattern(2, 500), direct_content(p))


# --- opening, reading, closing ---

def at_once(*fns):
    """Runs them in threads; the first exception is raised."""
    errors = []

    def run(fn):
        try:
            fn()
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=run, args=(fn,)) for fn in fns]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


@op(os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_DIRECT)
def open_cold(w, flags):
    p = w.cold()
    yield
    fd = w.open(p, flags)
    yield
    equal("size", 9000, size_of(fd))
    equal("content", w.cold_data(p), direct_content(p))


@op()
def open_mended(w):
    """One copy of its header is damaged; it is written anew."""
    p = w.cold()
    with open(w.below(p), "r+b") as f:
        f.seek(16384 + 4096 + 20)
        f.write(b"#####")
    yield
    fd = w.open(p)
    yield
    equal("content", w.cold_data(p), direct_content(p))
    with open(w.below(p), "rb") as f:
        f.seek(16384 + 4096 + 20)
        check(f.read(5) != b"#####", "the copy is still damaged")
    w.close(fd)


@op()
def open_cold_twice(w):
    p = w.cold()
    yield
    at_once(lambda: w.open(p), lambda: w.open(p, os.O_RDONLY))
    yield
    for fd in w.fds:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        equal("content", w.cold_data(p), os.pread(fd, 20000, 0))


@op()
def truncate_cold(w):
    p = w.cold()
    w.to_refill.append(p)
    yield
    os.truncate(p, 4001)
    yield
    equal("content", w.cold_data(p)[:4001], direct_content(p))


@op()
def open_read_cold(w):
    p = w.cold()
    yield
    fd = w.open(p, os.O_RDONLY)
    equal("content", w.cold_data(p), os.read(fd, 20000))
    w.close(fd)
    yield


@op(ENCRYPT, DERIVED, PLAIN)
def open_read_close(w, ext):
    p, _ = w.kept("read", ext, pattern(8, 150001))
    yield
    fd = w.open(p, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    equal("content", pattern(8, 150001), os.read(fd, 200000))
    w.close(fd)
    yield


@op()
def open_direct_read(w):
    p, _ = w.kept("read", ENCRYPT, pattern(8, 150001))
    yield
    equal("content", pattern(8, 150001), direct_content(p))
    yield


@op(ENCRYPT, PLAIN)
def close(w, ext):
    p, _ = w.kept("close", ext, b"close")
    fd = w.open(p)
    yield
    w.close(fd)
    yield


@op()
def close_folder(w):
    fd = w.open(w.dir, os.O_RDONLY | os.O_DIRECTORY)
    yield
    w.close(fd)
    yield


@op(slow=True)
def linger_close(w):
    p = w.fill(w.new(), pattern(3, 999))
    yield
    time.sleep(2.2)
    yield
    equal("content", pattern(3, 999), direct_content(p))


# --- writing ---

BASE = 70001


@op(patience=10)
def queued(w):
    """Several direct transfers at a time, by a program that compares."""
    p = w.fill(w.new(), pattern(1, 9000))
    program = os.environ["VCF_BUILD"] + "/tests/func/queue"
    yield
    done = subprocess.run([program, "-n", "48", "-q", "8", "-m", "2", "-s", "131072", p],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=30)
    equal("what the program says", b"", done.stderr)
    equal("its status", 0, done.returncode)
    yield


@op((ENCRYPT, 4096, 8192), (ENCRYPT, 100, 5000), (ENCRYPT, 1, 1), (ENCRYPT, 65000, 5001),
    (ENCRYPT, 65000, 9000), (ENCRYPT, 80000, 9000), (DERIVED, 100, 5000), (PLAIN, 100, 5000))
def write(w, ext, off, length):
    base = pattern(1, BASE)
    p, fd = w.kept("write", ext, base)
    yield
    equal("written", length, os.pwrite(fd, pattern(w.n, length), off))
    yield
    wanted = (base + bytes(max(0, off - BASE)))[:off] + pattern(w.n, length) + \
        base[off + length:]
    equal("size", len(wanted), size_of(p))
    equal("content", wanted, direct_content(p))


@op((ENCRYPT, 4096, 8192), (ENCRYPT, 512, 1024), (ENCRYPT, 69632, 4096), (ENCRYPT, 81920, 4096),
    (PLAIN, 4096, 8192))
def write_direct(w, ext, off, length):
    base = pattern(1, BASE)
    p, fd = w.kept("direct", ext, base, os.O_RDWR | os.O_DIRECT)
    yield
    buf = aligned(pattern(w.n, length), length)
    with memoryview(buf) as view, view[:length] as part:
        equal("written", length, os.pwritev(fd, [part], off))
    yield
    wanted = (base + bytes(max(0, off - BASE)))[:off] + pattern(w.n, length) + \
        base[off + length:]
    equal("size", len(wanted), size_of(p))
    equal("content", wanted, direct_content(p))


@op(ENCRYPT, PLAIN)
def write_again(w, ext):
    """What is answered is never executed again: the second write stays."""
    p, fd = w.kept("direct", ext, pattern(1, 20000), os.O_RDWR | os.O_DIRECT)
    yield
    for seed in (1, 2, 3):
        equal("written", 4096, os.pwritev(fd, [aligned(pattern(w.n + seed, 4096))], 4096))
    yield
    equal("content", pattern(1, 4096) + pattern(w.n + 3, 4096) + pattern(1, 20000)[8192:],
          direct_content(p))


@op()
def names_again(w):
    """The same for names: each call does something once."""
    p, q = w.new(tag="a"), w.new(tag="b")
    yield
    for _ in range(2):
        os.mkdir(p)
        os.rename(p, q)
        os.rmdir(q)
    os.symlink("x", p)
    os.unlink(p)
    w.empty_below(q)
    os.rename(q, p)
    w.fill(q, b"")
    yield
    equal("size", 0, size_of(p))
    check(os.path.exists(w.below(q)), "gone")


@op()
def xattrs_again(w):
    p = w.empty_below(w.new())
    yield
    os.setxattr(p, "user.a", b"1", os.XATTR_CREATE)
    os.removexattr(p, "user.a")
    os.setxattr(p, "user.a", b"2", os.XATTR_CREATE)
    with fails(errno.EEXIST):
        os.setxattr(p, "user.a", b"3", os.XATTR_CREATE)
    yield
    equal("value", b"2", os.getxattr(w.below(p), "user.a"))


@op()
def sizes_again(w):
    p, fd = w.kept("truncate", ENCRYPT, pattern(1, 9001))
    yield
    os.ftruncate(fd, 100)
    os.ftruncate(fd, 5000)
    os.pwrite(fd, b"end", 6000)
    yield
    equal("content", pattern(1, 100) + bytes(5900) + b"end", direct_content(p))


@op()
def write_large(w):
    """More than one request, more than one piece."""
    data = pattern(w.n, 1200000)
    p, fd = w.kept("large", ENCRYPT, b"x")
    yield
    equal("written", len(data), os.pwrite(fd, data, 0))
    yield
    equal("content", data, direct_content(p))


@op()
def append(w):
    base = pattern(1, 5001)
    p, _ = w.kept("append", ENCRYPT, base)
    fd = w.open(p, os.O_WRONLY | os.O_APPEND)
    yield
    equal("written", 3000, os.write(fd, pattern(w.n, 3000)))
    equal("written", 7, os.write(fd, b"another"))
    yield
    equal("content", base + pattern(w.n, 3000) + b"another", direct_content(p))


@op((ENCRYPT, 20001), (ENCRYPT, 3001), (ENCRYPT, 8192), (ENCRYPT, 5002), (ENCRYPT, 4097),
    (ENCRYPT, 0), (DERIVED, 3001), (PLAIN, 3001))
def truncate(w, ext, size):
    base = pattern(1, 9001)
    p, fd = w.kept("truncate", ext, base)
    yield
    os.ftruncate(fd, size)
    yield
    equal("size", size, size_of(p))
    equal("content", (base + bytes(max(0, size - 9001)))[:size], direct_content(p))


@op((ENCRYPT, 30001), (ENCRYPT, 2999))
def truncate_path(w, ext, size):
    base = pattern(1, 9001)
    p, _ = w.kept("truncate", ext, base)
    yield
    os.truncate(p, size)
    yield
    equal("size", size, size_of(p))
    equal("content", (base + bytes(max(0, size - 9001)))[:size], direct_content(p))


@op((KEEP, 50000, 100000), (0, 60000, 40001), (0, 100, 200), (PUNCH | KEEP, 5000, 20000),
    (PUNCH | KEEP, 60000, 90000), (ZERO, 5000, 20000), (ZERO, 60000, 40001),
    (ZERO | KEEP, 65000, 90000), (PUNCH | KEEP, 4096, 8192))
def allocate(w, mode, off, length):
    base = pattern(1, BASE)
    p, fd = w.kept("allocate", ENCRYPT, base)
    yield
    fallocate(fd, mode, off, length)
    yield
    end = off + length
    wanted = base
    if mode & (PUNCH | ZERO):
        wanted = base[:off] + bytes(min(end, BASE) - off) + base[end:]
    if not mode & KEEP and end > BASE:
        wanted += bytes(end - BASE)
    equal("size", len(wanted), size_of(p))
    equal("content", wanted, direct_content(p))


@op((ENCRYPT, "fsync"), (ENCRYPT, "fdatasync"), (PLAIN, "fsync"))
def sync(w, ext, how):
    _, fd = w.kept("sync", ext, pattern(1, 5000))
    os.pwrite(fd, pattern(w.n, 3000), 100)
    yield
    getattr(os, how)(fd)
    yield
    equal("content", pattern(w.n, 3000), os.pread(fd, 3000, 100))


@op()
def sync_first(w):
    """The first one since the file was opened: a descriptor is kept for a successor's fsync."""
    p = w.fill(w.new(), b"x")
    fd = w.open(p)
    os.pwrite(fd, pattern(w.n, 3000), 0)
    yield
    os.fsync(fd)
    yield
    equal("content", pattern(w.n, 3000), direct_content(p))


@op()
def sync_folder(w):
    fd = w.open(w.dir, os.O_RDONLY | os.O_DIRECTORY)
    yield
    os.fsync(fd)
    yield


@op()
def map_write(w):
    base = pattern(1, 20000)
    p, fd = w.kept("map", ENCRYPT, base)
    with mmap.mmap(fd, 20000) as m:
        yield
        m[5000:8000] = pattern(w.n, 3000)
        m.flush()
        yield
    equal("content", base[:5000] + pattern(w.n, 3000) + base[8000:], direct_content(p))


@op("data", "hole", "end")
def seek(w, what):
    path = f"{w.dir}/kept-seek"
    if not os.path.exists(path):
        with open(path, "wb", buffering=0) as f:
            os.pwrite(f.fileno(), b"x" * 100, 65536 * 2)
            f.truncate(65536 * 4)
    fd = w.open(path, os.O_RDONLY)
    yield
    if what == "data":
        equal("data", 65536 * 2, os.lseek(fd, 10, os.SEEK_DATA))
    elif what == "hole":
        equal("hole", 65536 * 2 + 4096, os.lseek(fd, 65536 * 2, os.SEEK_HOLE))
    else:
        with fails(errno.ENXIO):
            os.lseek(fd, 65536 * 3, os.SEEK_DATA)
    yield


# --- attributes ---

@op(0, os.XATTR_CREATE, os.XATTR_REPLACE)
def setxattr(w, flags):
    p = w.empty_below(w.new())
    if flags == os.XATTR_REPLACE:
        os.setxattr(p, "user.a", b"old")
    yield
    os.setxattr(p, "user.a", b"new", flags)
    yield
    equal("value", b"new", os.getxattr(w.below(p), "user.a"))


@op()
def setxattr_existing(w):
    p = w.empty_below(w.new())
    os.setxattr(p, "user.a", b"old")
    yield
    with fails(errno.EEXIST):
        os.setxattr(p, "user.a", b"new", os.XATTR_CREATE)
    yield
    equal("value", b"old", os.getxattr(w.below(p), "user.a"))


@op()
def setxattr_missing(w):
    p = w.empty_below(w.new())
    yield
    with fails(errno.ENODATA):
        os.setxattr(p, "user.a", b"new", os.XATTR_REPLACE)
    yield
    equal("names", [], os.listxattr(w.below(p)))


@op()
def removexattr(w):
    p = w.empty_below(w.new())
    os.setxattr(p, "user.a", b"old")
    yield
    os.removexattr(p, "user.a")
    yield
    equal("names", [], os.listxattr(w.below(p)))


@op()
def removexattr_missing(w):
    p = w.empty_below(w.new())
    yield
    with fails(errno.ENODATA):
        os.removexattr(p, "user.a")
    yield


@op()
def getxattr(w):
    p = w.empty_below(w.new())
    os.setxattr(w.below(p), "user.a", b"value")
    yield
    equal("value", b"value", os.getxattr(p, "user.a"))
    equal("names", ["user.a"], os.listxattr(p))
    yield


@op()
def chmod(w):
    p = w.empty_below(w.new())
    yield
    os.chmod(p, 0o601)
    yield
    equal("mode", 0o100601, fresh_stat(p)[2])


@op()
def chown(w):
    p = w.empty_below(w.new())
    yield
    os.chown(p, 12, 34)
    yield
    st = os.stat(w.below(p))
    equal("owner", (12, 34), (st.st_uid, st.st_gid))


@op()
def utimens(w):
    p = w.empty_below(w.new())
    yield
    os.utime(p, ns=(1234567890123456789, 987654321987654321))
    yield
    st = os.stat(w.below(p))
    equal("times", (1234567890123456789, 987654321987654321), (st.st_atime_ns, st.st_mtime_ns))


@op()
def getattr_(w):
    p, _ = w.kept("attr", ENCRYPT, pattern(1, 3333))
    yield
    equal("size", 3333, size_of(p))
    yield


@op()
def statfs(w):
    yield
    st = os.statvfs(w.dir)
    yield
    equal("blocks", os.statvfs(w.below(w.dir)).f_blocks, st.f_blocks)


# --- folders ---

def getdents(fd, room=4096):
    """[(name, offset after it)]; none: the end."""
    buf = ctypes.create_string_buffer(room)
    n = call(libc.syscall, 217, fd, buf, room)
    found, pos = [], 0
    while pos < n:
        off, reclen = struct.unpack_from("qH", buf, pos + 8)
        name = buf[pos + 19:pos + reclen].split(b"\0")[0].decode()
        found.append((name, off))
        pos += reclen
    return found


def read_all(fd):
    found = []
    while some := getdents(fd):
        found += some
    return found


def folder_of(w, cnt):
    d = f"{w.dir}/many{cnt}"
    if not os.path.exists(w.below(d)):
        os.mkdir(w.below(d))
        for i in range(cnt):
            w.empty_below(f"{d}/entry-{i:03}-of-many-with-a-name-that-takes-some-room")
    return d, sorted(os.listdir(w.below(d)) + [".", ".."])


@op()
def readdir(w):
    d, names = folder_of(w, 320)
    fd = w.open(d, os.O_RDONLY | os.O_DIRECTORY)
    yield
    found = read_all(fd)
    yield
    equal("names", names, sorted(n for n, _ in found))
    os.lseek(fd, found[99][1], os.SEEK_SET)
    equal("from the 100th on", found[100:], read_all(fd))


@op()
def readdir_seek(w):
    d, _ = folder_of(w, 320)
    fd = w.open(d, os.O_RDONLY | os.O_DIRECTORY)
    all_ = read_all(fd)
    yield
    os.lseek(fd, all_[199][1], os.SEEK_SET)
    found = getdents(fd)
    os.lseek(fd, all_[49][1], os.SEEK_SET)
    found2 = getdents(fd)
    yield
    equal("from the 200th on", all_[200:200 + len(found)], found)
    equal("from the 50th on", all_[50:50 + len(found2)], found2)


@op()
def readdir_renamed(w):
    d = w.new(tag="d")
    os.mkdir(w.below(d))
    names = [f"{i:03}-{'x' * 40}" for i in range(150)]
    for n in names:
        w.empty_below(f"{d}/{n}")
    fd = w.open(d, os.O_RDONLY | os.O_DIRECTORY)
    found = getdents(fd)
    yield
    os.rename(f"{d}/{names[70]}", f"{d}/renamed")
    found += read_all(fd)
    yield
    got = sorted(n for n, _ in found if n not in (".", "..", "renamed", names[70]))
    equal("the others", sorted(names[:70] + names[71:]), got)
    equal("links below", 150, len(os.listdir(w.below(d))))


@op()
def readdir_plus(w):
    """With attributes, as ls -l asks for them: each counts as a lookup."""
    d, names = folder_of(w, 40)
    yield
    found = {e.name: e.stat().st_size for e in os.scandir(d)}
    yield
    equal("names", names[2:], sorted(found))


# --- a take-over by itself ---

@op(settle=0.1, slow=True)
def killed(w):
    """With a journal that is due to be written anew."""
    for i in range(12):
        os.unlink(w.fill(w.new(tag=f"j{i}-"), b"x"))
    w.control.quiet(0.15)
    pid = w.server_pid()
    yield
    os.kill(pid, 9)
    with fails(errno.ENOENT):
        os.stat(w.new())
    yield
    equal("content", b"works", direct_content(w.fill(w.new(), b"works")))


# --- locks, which the kernel holds ---

def taken(fn):
    try:
        fn()
    except OSError as e:
        return e.errno in (errno.EAGAIN, errno.EACCES)
    return False


def other_process(fn):
    pid = os.fork()
    if not pid:
        os._exit(0 if fn() else 1)
    return os.waitpid(pid, 0)[1] == 0


@op()
def locks(w):
    p, fd = w.kept("locks", ENCRYPT, b"locks")
    q = w.open(p)
    ofd = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 100, 10, 0)
    fcntl.flock(fd, fcntl.LOCK_EX)
    fcntl.fcntl(fd, F_OFD_SETLK, ofd)
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 200)
    yield
    os.fsync(fd)
    yield
    check(taken(lambda: fcntl.flock(q, fcntl.LOCK_EX | fcntl.LOCK_NB)), "flock is lost")
    check(taken(lambda: fcntl.fcntl(q, F_OFD_SETLK, ofd)), "the OFD lock is lost")
    check(other_process(lambda: taken(
        lambda: fcntl.lockf(q, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 200))), "fcntl is lost")
    fcntl.flock(fd, fcntl.LOCK_UN)
    fcntl.fcntl(fd, F_OFD_SETLK, ofd.replace(ofd[:2], struct.pack("h", fcntl.F_UNLCK), 1))
    fcntl.lockf(fd, fcntl.LOCK_UN, 10, 200)
