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
cat >"$W/locks.py" <<'PY'
import errno, fcntl, os, signal, struct, subprocess, sys, time
here, there = sys.argv[1:3]
events = sys.argv[3:]
RANGES = 40
R, W, U = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
SET = {"posix": (fcntl.F_SETLK, fcntl.F_SETLKW), "ofd": (37, 38)}
def setlk(fd, how, kind, start=0, length=0, wait=False):
    if how == "flock":
        op = {R: fcntl.LOCK_SH, W: fcntl.LOCK_EX, U: fcntl.LOCK_UN}[kind]
        fcntl.flock(fd, op | (0 if wait else fcntl.LOCK_NB))
    else:
        fcntl.fcntl(fd, SET[how][wait], struct.pack("hhqqi4x", kind, 0, start, length, 0))
def refused(fd, how, kind, *where):
    try:
        setlk(fd, how, kind, *where)
    except OSError as e:
        assert e.errno in (errno.EAGAIN, errno.EACCES), e
        return True
    setlk(fd, how, U, *where) # the kernel tells of a close in the background
    return False
def child(fn):
    r, w = os.pipe()
    pid = os.fork()
    if pid:
        os.close(w)
        assert os.read(r, 1) == b".", "a child failed"
        os.close(r)
        return pid
    signal.alarm(170) # whatever becomes of the test
    try:
        fn(lambda: os.write(w, b"."))
    except BaseException as e:
        print("child:", repr(e), file=sys.stderr)
        os._exit(1)
    os._exit(0)
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
        holders.append(child(hold))
        cases.append((how, mine, other, kind, f"f{n}"))
def check(when):
    for how, mine, other, kind, f in cases:
        for mount in mine, other:
            fd = os.open(name(kind, mount, f), os.O_RDWR)
            if how == "flock":
                assert refused(fd, how, W), (when, how, mount)
                os.close(fd)
                continue
            for i in range(RANGES):
                assert refused(fd, how, W, 100 * i + 49, 1), (when, how, i, mount)
                assert refused(fd, how, R, 100 * i, 1) == bool(i % 2), (when, how, i, mount)
                assert not refused(fd, how, W, 100 * i + 50, 50), (when, how, i, mount)
            assert not refused(fd, how, W, 110, 20), (when, how, "hole", mount)
            os.close(fd)
check("before")
waiters = []
for how, mine, other, kind, f in cases:
    def wait(ready):
        fd = os.open(name(kind, other, f), os.O_RDWR)
        ready()
        setlk(fd, how, W, wait=True)
    waiters.append(child(wait))
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
    got = os.waitstatus_to_exitcode(os.waitpid(w, 0)[1])
    signal.alarm(0)
    assert got == 0, got
print("ok: who waited has them", flush=True)
PY
run_of() { [ "$1" = 1 ] && echo "$W/run $MNT" || echo "$W/run2 $MNT2"; }
kill_one() {
	read -r run mnt < <(run_of "$1")
	echo "kill -9 \$(VMCRYPTFS_RUNTIME_DIRECTORY=$run $VMCRYPTFS status --json $mnt | python3 -c 'import json,sys; print(json.load(sys.stdin)[\"server_pid\"])')"
}
upgrade_one() {
	read -r run mnt < <(run_of "$1")
	echo "VMCRYPTFS_RUNTIME_DIRECTORY=$run $VMCRYPTFS upgrade $mnt"
}
timeout 150 python3 "$W/locks.py" "$MNT" "$MNT2" "$(kill_one 1)" "$(kill_one 2)" "$(upgrade_one 1)" \
	"$(upgrade_one 2)" "$(kill_one 1)" "$(upgrade_one 1) && $(kill_one 1)" "$(kill_one 2)" ||
	fail "locks"
shared_umount
