#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""hostiletree.py: who changes a tree below the mount, and who uses it meanwhile.

  swap BACK SECONDS          exchanges folder and symbolic link, file and link, file and FIFO, ..., until then
  use MNT SECONDS CANARY A B opens, makes and renames in the same places; nothing read is the canary, and
                             what is read of an image is the beginning of file A or B
  odd BACK                   files with names that no terminal should see
  fill FOLDER COUNT          empty files
"""
import ctypes
import errno
import os
import socket
import sys
import time
from collections import Counter

LIBC = ctypes.CDLL(None, use_errno=True)
EXCHANGE = 2
ODD = [b"line\nforged: [err]", b"\x1b[31mred\x1b[0m", b"\xff\xfe\xc3(", b"b" * 255, "ü€".encode(), b"tab\tbell\x07"]


def exchange(a, b):
    LIBC.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), EXCHANGE)


def swap(back, seconds):
    """Each pair is exchanged again and again; what a name means is never the same for long."""
    os.chdir(back)
    os.symlink("../../outside", "folder.other")
    os.symlink("../../outside/canary", "file.other")
    os.mkfifo("pipe.other")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind("socket.other")
    end = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < end:
        for name in ("folder", "file", "pipe", "socket", "image"):
            exchange(name, name + ".other")
        rounds += 1
        if rounds % 8 == 0:
            time.sleep(0.0005)
    print(f"{rounds} rounds of exchanges")


class User:
    def __init__(self, mnt, canary, images):
        os.chdir(mnt)
        self.canary, self.images = canary, images
        self.said = Counter()
        self.done = 0

    def attempt(self, func, *args):
        self.done += 1
        try:
            return func(*args)
        except OSError as e:
            self.said[errno.errorcode[e.errno]] += 1
            return None

    def read(self, path):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.read(fd, 4096)
        finally:
            os.close(fd)

    def write(self, path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o644)
        try:
            os.write(fd, b"made through the mount\n")
        finally:
            os.close(fd)

    def look(self, path):
        data = self.attempt(self.read, path)
        if data and self.canary in data:
            sys.exit(f"{path}: read what lies outside")
        return data

    def round(self, n):
        self.look("folder/canary")
        self.look("file")
        self.look("pipe")
        self.look("socket")
        data = self.look("image")
        if data and data not in self.images:
            sys.exit(f"image: WRONG PLAINTEXT: {data[:40]!r}")
        self.attempt(self.write, f"folder/made{n % 5}")
        self.attempt(os.mkdir, f"folder/dir{n % 5}")
        self.attempt(os.truncate, "folder/made0", 100)
        self.attempt(os.chmod, "folder/made1", 0o600)
        self.attempt(os.rename, "folder/made1", "folder/made2")
        self.attempt(os.link, "folder/made2", f"folder/linked{n}")
        self.attempt(os.unlink, f"folder/linked{n}")
        self.attempt(os.rmdir, f"folder/dir{n % 5}")
        self.attempt(os.setxattr, "folder/made2", "user.x", b"y")
        self.attempt(os.listdir, "folder")
        self.attempt(os.stat, "folder/canary")


def use(mnt, seconds, canary, a, b):
    with open(canary, "rb") as f:
        mark = f.read()
    images = []
    for path in (a, b):
        with open(path, "rb") as f:
            images.append(f.read(4096))
    user = User(mnt, mark, images)
    end = time.monotonic() + seconds
    n = 0
    while time.monotonic() < end:
        user.round(n)
        n += 1
    print(f"{user.done} calls, errors: {dict(user.said)}")
    odd = set(user.said) - {"ENOENT", "ELOOP", "ENOTDIR", "ESTALE", "EEXIST", "EPERM", "ENXIO", "EXDEV",
                            "ENOTEMPTY", "EACCES", "EBADMSG"}
    if odd:
        sys.exit(f"errors that say nothing: {odd}")


def odd_names(back):
    for name in ODD:
        with open(os.path.join(os.fsencode(back), name), "wb") as f:
            f.write(b"plaintext\n")


def fill(folder, count):
    for n in range(count):
        os.close(os.open(f"{folder}/entry-{n:06d}", os.O_WRONLY | os.O_CREAT, 0o644))


if __name__ == "__main__":
    what, *args = sys.argv[1:]
    if what == "swap":
        swap(args[0], float(args[1]))
    elif what == "use":
        use(args[0], float(args[1]), *args[2:])
    elif what == "odd":
        odd_names(args[0])
    elif what == "fill":
        fill(args[0], int(args[1]))
