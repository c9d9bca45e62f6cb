#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Locks of programs hold between two daemons over one folder, over the death of either, too.
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
from locks_lib import R, W, U, child, getlk, refused, setlk, status_of
a, b, kill1, kill2 = sys.argv[1:5]
open(f"{a}/f", "w").write("x" * 5000)
open(f"{a}/plain/f", "w").write("x" * 5000)
for name in "f", "plain/f":
    for how in "posix", "ofd", "flock":
        for held, tried, no in (W, W, True), (W, R, True), (R, W, True), (R, R, False):
            def hold(ready):
                fd = os.open(f"{a}/{name}", os.O_RDWR)
                setlk(fd, how, held)
                ready()
                signal.pause()
            pid = child(hold, 100)
            fd = os.open(f"{b}/{name}", os.O_RDWR)
            assert refused(fd, how, tried) == no, (name, how, held, tried)
            if not no:
                setlk(fd, how, U)
            if how != "flock":
                got = getlk(fd, how, W, 10, 20)
                assert got[0] == held and got[2:4] == (0, 0), got
                assert got[4] == (-1 if how == "ofd" else 0), got # another node's
                near = os.open(f"{a}/{name}", os.O_RDWR)
                got = getlk(near, how, W, 10, 20)
                assert got[0] == held and got[2:5] == (0, 0, -1 if how == "ofd" else pid), (got, pid)
                os.close(near)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            for _ in range(100):
                if not refused(fd, how, W):
                    break
                time.sleep(0.02)
            else:
                raise SystemExit(f"{name} {how}: a killed process keeps its lock")
            setlk(fd, how, U)
            os.close(fd)
    print(f"ok: {name}: who excludes whom, and a killed one keeps none", flush=True)
    # parts of a file, merged and split
    x, y = os.open(f"{a}/{name}", os.O_RDWR), os.open(f"{b}/{name}", os.O_RDWR)
    setlk(x, "ofd", W, 0, 100)
    setlk(x, "ofd", W, 100, 100)
    setlk(x, "ofd", U, 50, 100)
    assert not refused(y, "ofd", W, 50, 100)
    assert refused(y, "ofd", W, 0, 10) and refused(y, "ofd", W, 199, 5)
    os.close(x)
    for _ in range(100): # the kernel tells of the last close in the background
        if not refused(y, "ofd", W, 0, 1000):
            break
        time.sleep(0.02)
    assert not refused(y, "ofd", W, 0, 1000)
    os.close(y)
    # waiting
    for how in "posix", "ofd", "flock":
        x = os.open(f"{a}/{name}", os.O_RDWR)
        setlk(x, how, W, wait=True) # the kernel tells of the close above in the background
        def wait(ready):
            fd = os.open(f"{b}/{name}", os.O_RDWR)
            ready()
            setlk(fd, how, W, wait=True)
        pid = child(wait, 100)
        time.sleep(0.3)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        for k in kill1, kill2:
            subprocess.run(["bash", "-c", k], check=True)
            time.sleep(0.2)
            assert os.waitpid(pid, os.WNOHANG) == (0, 0), "a death ended the wait"
            y = os.open(f"{b}/{name}", os.O_RDWR)
            assert refused(y, how, W), "a death took the lock"
            os.close(y)
        setlk(x, how, U)
        assert status_of(pid) == 0
        setlk(x, how, W, wait=True) # the kernel tells of that end in the background
        def interrupted(ready):
            class Stop(Exception): pass
            def stop(*_): raise Stop
            signal.signal(signal.SIGALRM, stop)
            fd = os.open(f"{b}/{name}", os.O_RDWR)
            ready()
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            try:
                setlk(fd, how, W, wait=True)
            except Stop:
                return
            raise SystemExit(1)
        assert status_of(child(interrupted, 100)) == 0
        os.close(x)
    print(f"ok: {name}: waits end with the lock or a signal, not with a server", flush=True)
PY
timeout 80 python3 "$W/locks.py" "$MNT" "$MNT2" "$(kill_command 1)" "$(kill_command 2)" ||
	fail "locks"
shared_umount
