#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""novawatch.py: does anything in the clear reach the disk below a mount, at any moment?

usage: novawatch.py FOLDER PATTERN-FILE     FOLDER is where a file system of its own is mounted
       novawatch.py --image FILE PATTERN-FILE

The first form asks the kernel (fanotify) for a descriptor of each file on that file system that
is opened or written, so that files are seen which live for a moment only; each is searched again
after each change, as often as time allows, and once more when it is told to. Commands on
standard input, an answer of one line each:
  look    search all that changed; answers {"files": N, "looks": N, "found": [TEXT...]}
          since the last time
  quit
Beside the patterns the form is judged: a file that has a name and is not exempt (`plain`, the
passthrough rules) is empty, begins with a LUKS magic, or with a first sector of zeros (a
container in the making).

The second form searches the whole medium, with the blocks of deleted files. Prints what it finds.

PATTERN-FILE is JSON: {"patterns": [TEXT...], "plain": [REGULAR EXPRESSION of paths below FOLDER]}.
"""
import ctypes
import errno
import json
import os
import re
import select
import struct
import sys
import time

FAN_MODIFY, FAN_CLOSE_WRITE, FAN_OPEN = 0x2, 0x8, 0x20
FAN_CLOEXEC, FAN_NONBLOCK, FAN_UNLIMITED_QUEUE, FAN_UNLIMITED_MARKS = 1, 2, 0x10, 0x20
FAN_MARK_ADD, FAN_MARK_FILESYSTEM = 1, 0x100
EVENT = struct.Struct("=IBBHQii")
CHUNK = 4 << 20
PAUSE = 0.05  # a file is not searched more often, and not for more than a fifth of the time
SETTLED_NS = 100_000_000  # times of files go by ticks
WALK_PAUSE = 0.3  # between looks for changes that no event told
MAGICS = (b"LUKS\xba\xbe", b"SKUL\xba\xbe")


class Patterns:
    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            told = json.load(f)
        self.words = [w.encode("latin-1") for w in told["patterns"]]
        self.plain = [re.compile(p) for p in told["plain"]]
        self.overlap = max(map(len, self.words)) - 1
        self.searched = 0  # bytes

    def is_plain(self, path):
        return any(p.match(path) for p in self.plain)

    def search(self, fd):
        """What the data of a file contains, holes left out: [(offset, word)]."""
        found, at = [], 0
        while True:
            try:
                at = os.lseek(fd, at, os.SEEK_DATA)
                end = os.lseek(fd, at, os.SEEK_HOLE)
            except OSError as e:
                if e.errno == errno.ENXIO:
                    return found
                raise
            while at < end:
                data = os.pread(fd, min(CHUNK, end - at) + self.overlap, at)
                if not data:
                    return found
                self.searched += len(data)
                found += [(at + data.find(w), w) for w in self.words if w in data]
                at += CHUNK
            at = end


class File:
    """One that was seen; the descriptor keeps it findable after its deletion."""

    def __init__(self, fd):
        self.fd = fd
        self.dirty = True
        self.next_s = 0
        self.searched = None  # its times and size when it was searched the last time


class Watch:
    def __init__(self, folder, patterns):
        libc = ctypes.CDLL(None, use_errno=True)
        self.folder = os.path.realpath(folder)
        self.patterns = patterns
        self.files = {}
        self.seen, self.looks, self.found = set(), 0, set()
        flags = FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS
        self.fan = libc.fanotify_init(flags, os.O_RDONLY | os.O_LARGEFILE | os.O_NOATIME)
        if self.fan < 0:
            raise OSError(ctypes.get_errno(), "fanotify_init")
        mask = ctypes.c_uint64(FAN_MODIFY | FAN_CLOSE_WRITE | FAN_OPEN)
        if libc.fanotify_mark(self.fan, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, mask, -100,
                              os.fsencode(folder)) < 0:
            raise OSError(ctypes.get_errno(), "fanotify_mark")

    def take_events(self):
        while True:
            try:
                data = os.read(self.fan, 65536)
            except BlockingIOError:
                return
            for _len, _v, _r, _m, mask, fd, pid in EVENT.iter_unpack(data):
                if fd < 0:
                    self.found.add("an event without a descriptor: something was not seen")
                elif pid == os.getpid():
                    os.close(fd)
                else:
                    self.take(fd, mask & FAN_MODIFY)

    def take(self, fd, modified=False):
        st = os.fstat(fd)
        old = self.files.get(st.st_ino)
        if old:
            os.close(fd)
            old.dirty = True
            if modified:
                old.searched = None
        elif (st.st_mode & 0o170000) == 0o100000:
            self.files[st.st_ino] = File(fd)
            self.seen.add(st.st_ino)
        else:
            os.close(fd)
        if old:
            self.seen.add(st.st_ino)

    def walk(self):
        """All that has a name: what events did not tell (writes by way of Linux aio)."""
        for top, _dirs, names in os.walk(self.folder):
            for name in names:
                try:
                    self.take(os.open(os.path.join(top, name), os.O_RDONLY | os.O_NOFOLLOW |
                                      os.O_NOATIME | os.O_NONBLOCK))
                except OSError:
                    pass

    def is_searched(self, f):
        """Nothing changed since the last search, which began long enough after the last change
        for the clock of the file system to tell."""
        st = os.fstat(f.fd)
        now = (st.st_mtime_ns, st.st_ctime_ns, st.st_size, st.st_nlink)
        same = f.searched == now
        settled = time.time_ns() - max(st.st_mtime_ns, st.st_ctime_ns) > SETTLED_NS
        f.searched = now if settled else None
        return same

    def judge(self, f):
        if self.is_searched(f):
            return
        self.looks += 1
        path = os.readlink(f"/proc/self/fd/{f.fd}")
        rel = os.path.relpath(path.removesuffix(" (deleted)"), self.folder)
        for off, word in self.patterns.search(f.fd):
            self.found.add(f"{rel}: {word!r} at {off}")
        st = os.fstat(f.fd)
        first = os.pread(f.fd, 4096, 0)
        if st.st_nlink and os.fstat(f.fd).st_nlink and first.strip(b"\0") and \
                not first.startswith(MAGICS) and not self.patterns.is_plain(rel):
            self.found.add(f"{rel}: begins with {first[:16]!r}")

    def search_changed(self, now_s):
        for ino, f in list(self.files.items()):
            if f.dirty and f.next_s <= now_s:
                f.dirty = False
                begin_s = time.monotonic()
                self.judge(f)
                end_s = time.monotonic()
                f.next_s = end_s + max(PAUSE, 4 * (end_s - begin_s))
                if os.fstat(f.fd).st_nlink == 0:
                    f.next_s += 1
            elif not f.dirty and os.fstat(f.fd).st_nlink == 0:
                os.close(f.fd)
                del self.files[ino]

    def look(self):
        self.take_events()
        self.walk()
        self.search_changed(float("inf"))
        answer = {"files": len(self.seen), "looks": self.looks, "found": sorted(self.found)}
        self.seen, self.looks, self.found = set(), 0, set()
        return answer

    def serve(self):
        poll = select.poll()
        poll.register(self.fan, select.POLLIN)
        poll.register(0, select.POLLIN)
        print("ready", flush=True)
        walked_s = 0
        while True:
            ready = dict(poll.poll(int(PAUSE * 1000)))
            self.take_events()
            if time.monotonic() - walked_s > WALK_PAUSE:
                self.walk()
                walked_s = time.monotonic()
            if 0 in ready:
                word = sys.stdin.readline().strip()
                if word != "look":
                    return
                print(json.dumps(self.look()), flush=True)
            self.search_changed(time.monotonic())


def main():
    if sys.argv[1] == "--image":
        fd = os.open(sys.argv[2], os.O_RDONLY)
        found = Patterns(sys.argv[3]).search(fd)
        for off, word in found:
            print(f"{word!r} at {off}")
        sys.exit(bool(found))
    Watch(sys.argv[1], Patterns(sys.argv[2])).serve()


if __name__ == "__main__":
    main()
