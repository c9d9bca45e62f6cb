# SPDX-License-Identifier: GPL-2.0-or-later
"""Locks of every kind on files, and children that hold them, for tests of locks."""
import errno
import fcntl
import os
import signal
import struct
import sys

R, W, U = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
GET = {"posix": fcntl.F_GETLK, "ofd": 36}
SET = {"posix": (fcntl.F_SETLK, fcntl.F_SETLKW), "ofd": (37, 38)}


def argument(kind, start=0, length=0):
    return struct.pack("hhqqi4x", kind, 0, start, length, 0)


def setlk(fd, how, kind, start=0, length=0, wait=False):
    if how == "flock":
        op = {R: fcntl.LOCK_SH, W: fcntl.LOCK_EX, U: fcntl.LOCK_UN}[kind]
        fcntl.flock(fd, op | (0 if wait else fcntl.LOCK_NB))
    else:
        fcntl.fcntl(fd, SET[how][wait], argument(kind, start, length))


def getlk(fd, how, kind, start, length):
    """(type, whence, start, length, pid) of who stands in the way"""
    return struct.unpack("hhqqi4x", fcntl.fcntl(fd, GET[how], argument(kind, start, length)))


def refused(fd, *lock):
    """Takes the lock, unless somebody else's is there."""
    try:
        setlk(fd, *lock)
    except OSError as e:
        assert e.errno in (errno.EAGAIN, errno.EACCES), e
        return True
    return False


def child(fn, seconds):
    """A process that runs fn(ready), and ends after so many seconds whatever becomes of the test."""
    r, w = os.pipe()
    pid = os.fork()
    if pid:
        os.close(w)
        assert os.read(r, 1) == b".", "a child failed"
        os.close(r)
        return pid
    signal.alarm(seconds)
    try:
        fn(lambda: os.write(w, b"."))
    except BaseException as e:
        print("child:", repr(e), file=sys.stderr)
        os._exit(1)
    os._exit(0)


def status_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
