#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Locks that programs hold through two daemons over one folder stay theirs, every range of them, when a
# server is killed, when the program is upgraded, and when both happen again and again; who waits
# for one gets it afterwards.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$FUNC/shared.lib.sh"
need_fuse
vcf_setup
vcf_config <<-CONFIG
	[rules]
	passthrough = plain/**
CONFIG
shared_mount
mkdir "$MNT/plain"
expect_log 'was killed by signal 9'
export PYTHONPATH=$FUNC PYTHONDONTWRITEBYTECODE=1
cat >"$W/locks.py" <<'PY'
import os, signal, subprocess, sys, time
from locks_lib import R, W, U, child, refused, setlk, status_of
here, there = sys.argv[1:3]
events = sys.argv[3:]
RANGES = 40
def taken(fd, *lock):
    """Does somebody have it? The kernel tells of a close in the background: not by one of these."""
    if refused(fd, *lock):
        return True
    how, _, *where = lock
    setlk(fd, how, U, *where)
    return False
def name(kind, mount, n):
    return f"{mount}/{kind}{n}"
# One who holds on either node, of each kind: ranges that alternate between reading and writing.
holders, cases = [], []
for kind in "", "plain/":
    for n, (how, mine, other) in enumerate((h, m, o) for h in ("posix", "ofd", "flock")
                                           for m, o in ((here, there), (there, here))):
        open(name(kind, mine, f"f{n}"), "w").write("x" * 9000)
        def hold(ready):
            fd = os.open(name(kind, mine, f"f{n}"), os.O_RDWR)
            if how == "flock":
                setlk(fd, how, W)
            else:
                for i in range(RANGES):
                    setlk(fd, how, (R, W)[i % 2], 100 * i, 50)
                setlk(fd, how, U, 110, 20) # a hole in one
            ready()
            signal.pause()
        holders.append(child(hold, 170))
        cases.append((how, mine, other, kind, f"f{n}"))
def check(when):
    for how, mine, other, kind, f in cases:
        for mount in mine, other:
            fd = os.open(name(kind, mount, f), os.O_RDWR)
            if how == "flock":
                assert taken(fd, how, W), (when, how, mount)
                os.close(fd)
                continue
            for i in range(RANGES):
                assert taken(fd, how, W, 100 * i + 49, 1), (when, how, i, mount)
                assert taken(fd, how, R, 100 * i, 1) == bool(i % 2), (when, how, i, mount)
                assert not taken(fd, how, W, 100 * i + 50, 50), (when, how, i, mount)
            assert not taken(fd, how, W, 110, 20), (when, how, "hole", mount)
            os.close(fd)
check("before")
waiters = []
for how, mine, other, kind, f in cases:
    def wait(ready):
        fd = os.open(name(kind, other, f), os.O_RDWR)
        ready()
        setlk(fd, how, W, wait=True)
    waiters.append(child(wait, 170))
time.sleep(0.3)
for e in events:
    subprocess.run(["bash", "-c", e], check=True, stdout=subprocess.DEVNULL)
    check(e)
    for w in waiters:
        assert os.waitpid(w, os.WNOHANG) == (0, 0), f"a wait ended: {e}"
print("ok: every lock is held, every wait waits", flush=True)
for h, w in zip(holders, waiters):
    os.kill(h, signal.SIGKILL)
    os.waitpid(h, 0)
    signal.alarm(60)
    got = status_of(w)
    signal.alarm(0)
    assert got == 0, got
print("ok: who waited has them", flush=True)
PY
timeout 150 python3 "$W/locks.py" "$MNT" "$MNT2" "$(kill_command 1)" "$(kill_command 2)" "$(upgrade_command 1)" \
	"$(upgrade_command 2)" "$(kill_command 1)" "$(upgrade_command 1) && $(kill_command 1)" "$(kill_command 2)" ||
	fail "locks"
shared_umount
