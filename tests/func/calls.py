#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""calls.py: system calls that no shell tool reaches, for the functional tests.

usage: calls.py VERB ARGUMENT...
Ends with status 1 and "VERB: TEXT OF ERRNO" on stderr where the call fails, as the tools do.
"""
import contextlib
import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import random
import re
import struct
import sys
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
BLOCK = 4096
F_OFD_SETLK = 37
FLAGS = {"noreplace": 1, "exchange": 2, "whiteout": 4, "none": 0}


def rename2(flags, old, new):
    at_fdcwd = -100
    if libc.renameat2(at_fdcwd, os.fsencode(old), at_fdcwd, os.fsencode(new), FLAGS[flags]):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def aligned(size, fill=b""):
    """A page-aligned buffer."""
    buf = mmap.mmap(-1, max(size, BLOCK))
    buf.write(fill)
    return buf


def direct_write(path, off, data_file, size):
    off, size = int(off), int(size)
    with open(data_file, "rb") as src:
        buf = aligned(size, src.read(size))
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
    done = os.pwrite(fd, memoryview(buf)[:size], off)
    os.close(fd)
    if done != size:
        raise OSError(errno.EIO, f"short write: {done} of {size}")


def direct_read(path, off, size):
    off, size = int(off), int(size)
    buf = aligned(size)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    done = os.preadv(fd, [memoryview(buf)[:size]], off)
    os.close(fd)
    sys.stdout.buffer.write(buf[:done])


def mmap_write(path, off, text):
    """Writes through a shared mapping, msync, and reads back by read(2)."""
    off, data = int(off), text.encode()
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 0, mmap.MAP_SHARED) as m:
        m[off:off + len(data)] = data
        m.flush()
    got = os.pread(fd, len(data), off)
    os.close(fd)
    if got != data:
        raise OSError(errno.EIO, "read(2) does not see what the mapping wrote")


def mmap_private(path, off, text):
    """Changes a private mapping; the file must stay as it is."""
    off, data = int(off), text.encode()
    fd = os.open(path, os.O_RDWR)
    before = os.pread(fd, len(data), off)
    with mmap.mmap(fd, 0, mmap.MAP_PRIVATE) as m:
        if m[off:off + len(data)] != before:
            raise OSError(errno.EIO, "mapping and read(2) differ")
        m[off:off + len(data)] = data
    if os.pread(fd, len(data), off) != before:
        raise OSError(errno.EIO, "a private mapping changed the file")
    os.close(fd)


def lock_arg(kind):
    return struct.pack("hhqqi4x", fcntl.F_WRLCK if kind == "w" else fcntl.F_RDLCK, 0, 0, 0, 0)


def lock(path, how, kind):
    fd = os.open(path, os.O_RDWR)
    if how == "flock":
        fcntl.flock(fd, (fcntl.LOCK_EX if kind == "w" else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    else:
        fcntl.fcntl(fd, fcntl.F_SETLK if how == "posix" else F_OFD_SETLK, lock_arg(kind))
    return fd


def lock_hold(path, how, kind):
    """Takes a lock, says "locked", keeps it until standard input ends."""
    lock(path, how, kind)
    print("locked", flush=True)
    sys.stdin.read()


def lock_try(path, how, kind):
    os.close(lock(path, how, kind))


def open_hold(*paths):
    """Opens all, says "open", keeps them until standard input ends."""
    fds = [os.open(p, os.O_RDWR) for p in paths]
    print("open", flush=True)
    sys.stdin.read()
    for fd in fds:
        os.close(fd)


def open_at_once(folder, count):
    """Opens i1 ... of a folder at the same moment; prints milliseconds: all, the worst, and the
    number of failures. The files stay open until all are."""
    threading.stack_size(64 * 1024)
    took, start = {}, threading.Event()

    def one(path):
        start.wait()
        begin = time.monotonic()
        try:
            took[path] = (os.open(path, os.O_RDWR), time.monotonic() - begin)
        except OSError as e:
            took[path] = (-e.errno, time.monotonic() - begin)

    threads = [threading.Thread(target=one, args=(f"{folder}/i{i + 1}",))
               for i in range(int(count))]
    for t in threads:
        t.start()
    begin = time.monotonic()
    start.set()
    for t in threads:
        t.join()
    wall = time.monotonic() - begin
    bad = [fd for fd, _ in took.values() if fd < 0]
    print(int(wall * 1000), int(max(s for _, s in took.values()) * 1000), len(bad),
          *sorted({errno.errorcode[-e] for e in bad}))


def open_only(path, mode):
    flags = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR,
             "trunc": os.O_WRONLY | os.O_TRUNC, "creat": os.O_RDWR | os.O_CREAT,
             "excl": os.O_RDWR | os.O_CREAT | os.O_EXCL, "nofollow": os.O_RDONLY | os.O_NOFOLLOW,
             "dir": os.O_RDONLY | os.O_DIRECTORY, "tmpfile": os.O_RDWR | os.O_TMPFILE}
    os.close(os.open(path, flags[mode], 0o644))


def unlinked_io(path):
    """A file without a name stays usable through its descriptor."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, b"before")
    os.unlink(path)
    os.pwrite(fd, b"AFTER!", 6)
    os.fsync(fd)
    os.ftruncate(fd, 9000)
    ok = os.pread(fd, 100, 0)[:12] == b"beforeAFTER!" and os.fstat(fd).st_size == 9000
    ok = ok and os.fstat(fd).st_nlink == 0
    os.close(fd)
    if not ok:
        raise OSError(errno.EIO, "wrong content or size")


def unlink_open(path):
    """The last name goes before the last handle."""
    fd = os.open(path, os.O_RDWR)
    os.unlink(path)
    os.close(fd)


def unlink_early(path):
    """The name goes before the first byte comes."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(path)
    os.write(fd, b"late")
    os.close(fd)


def reopen_wiped(path, backing, keep):
    """By an O_PATH descriptor, an image that was deleted, and wiped from byte KEEP on, meanwhile."""
    fd = os.open(path, os.O_PATH)
    with open(backing, "r+b") as f:
        f.seek(int(keep))
        f.write(random.Random(1).randbytes(40000))
    os.unlink(backing)
    os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY))


def rename_over_open(old, new):
    """What is replaced has a handle for a moment more."""
    fd = os.open(new, os.O_RDWR)
    os.rename(old, new)
    os.close(fd)


def readdir_unlink(path, every):
    """Lists a large folder while every EVERY-th entry goes; the others are seen exactly once."""
    every, seen = int(every), []
    names = sorted(os.listdir(path))
    doomed = set(names[::every])
    with os.scandir(path) as it:
        for n, entry in enumerate(it):
            seen.append(entry.name)
            if n == 100:
                for name in doomed:
                    os.unlink(os.path.join(path, name))
    if len(seen) != len(set(seen)):
        raise OSError(errno.EIO, "an entry was listed twice")
    missing = set(names) - doomed - set(seen)
    if missing:
        raise OSError(errno.EIO, f"{len(missing)} entries were not listed")


def segments(path):
    """Prints the data segments as "OFFSET LENGTH" lines."""
    fd = os.open(path, os.O_RDONLY)
    size, pos = os.fstat(fd).st_size, 0
    while pos < size:
        try:
            pos = os.lseek(fd, pos, os.SEEK_DATA)
        except OSError as e:
            if e.errno != errno.ENXIO:
                raise
            break
        end = os.lseek(fd, pos, os.SEEK_HOLE)
        print(pos, end - pos)
        pos = end
    os.close(fd)


def pattern(seed, size):
    """Random but repeatable bytes to standard output."""
    rng, left = random.Random(seed), int(size)
    while left > 0:
        chunk = rng.randbytes(min(left, 1 << 20))
        sys.stdout.buffer.write(chunk)
        left -= len(chunk)


def luks2_edit(path, old, new):
    """Replaces a regular expression in the metadata of both header copies; mends checksums."""
    with open(path, "r+b") as f:
        size, = struct.unpack(">8xQ", f.read(16))
        for start in (0, size):
            f.seek(start)
            head, text = bytearray(f.read(4096)), f.read(size - 4096).rstrip(b"\0")
            text, hits = re.subn(old.encode(), new.encode(), text)
            if not hits:
                raise OSError(errno.EINVAL, f"{old}: not in the header")
            text += bytes(size - 4096 - len(text))
            head[448:512] = bytes(64)
            head[448:480] = hashlib.sha256(head + text).digest()
            f.seek(start)
            f.write(head + text)


def absent(needle_dir, *places):
    """None of the needles (a file each) occurs in any file at or below the places."""
    needles = {}
    for name in os.listdir(needle_dir):
        with open(os.path.join(needle_dir, name), "rb") as f:
            needles[name] = f.read().strip(b"\n") if not name.endswith(".raw") else f.read()
    keep = max(map(len, needles.values())) - 1
    files = [os.path.join(d, f) for p in places for d, _, fs in os.walk(p) for f in fs]
    for path in filter(os.path.isfile, files + list(places)):
        with open(path, "rb") as f:
            tail = b""
            while chunk := f.read(1 << 22):
                window = tail + chunk
                for name, needle in needles.items():
                    if needle in window:
                        raise OSError(errno.EIO, f"{name} found in {path}")
                tail = window[-keep:]


def fsync_dir(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)


def opened(*folders):
    """Prints the names of what is opened in the folders (not the folders) until input ends.

    An O_PATH descriptor opens nothing. The first line is "watching".
    """
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK)
    for f in folders:
        if libc.inotify_add_watch(fd, os.fsencode(f), 0x20) < 0:  # IN_OPEN
            raise OSError(ctypes.get_errno(), f)
    print("watching", flush=True)
    sys.stdin.read()
    seen, buf = set(), b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(fd, 1 << 16):
            buf += piece
    while buf:
        _, mask, _, length = struct.unpack_from("iIII", buf)
        name, buf = buf[16:16 + length].rstrip(b"\0"), buf[16 + length:]
        if mask & 0x4000:  # IN_Q_OVERFLOW
            raise OSError(errno.EOVERFLOW, "too much was opened")
        if name and not mask & 0x40000000:  # IN_ISDIR
            seen.add(os.fsdecode(name))
    print(*sorted(seen), sep="\n")


VERBS = [rename2, direct_write, direct_read, mmap_write, mmap_private, lock_hold, lock_try,
         open_at_once, open_hold, open_only, unlinked_io, unlink_open, unlink_early,
         reopen_wiped, rename_over_open,
         readdir_unlink, segments, pattern, luks2_edit, absent, fsync_dir,
         opened]

if __name__ == "__main__":
    verb = {f.__name__: f for f in VERBS}.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if verb is None:
        sys.exit(__doc__ + "verbs: " + " ".join(f.__name__ for f in VERBS))
    try:
        verb(*sys.argv[2:])
    except OSError as e:
        print(f"{sys.argv[1]}: {e.strerror or e}", file=sys.stderr)
        sys.exit(1)
