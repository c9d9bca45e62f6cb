#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Walks the crash points of a mount whose keeper lives; points.sh makes the mount.

usage: points.py WORKDIR KEEPER-PID [-v] [--seconds S] [--pairs S] [--seed N] [--ops REGEX]
           [--point REGEX] [--visited FILE] [--look]

WORKDIR has mnt, back, keys (a link), run, state, log; crash and trace are what VCF_CRASH_FILE and
VCF_CRASH_TRACE of the daemon name. For each operation (points_ops.py) one dry run tells which
points it passes, and how often. Then for each point and pass 1, 2 and the last: a fresh start, the
point is armed, the operation runs, and result and state must be as in the dry run.

--pairs S: for S seconds, as second deaths, the points that the next generation passed after a
first one, in a random choice. --seconds S: the other walks take no longer, beside
the dry runs; what came first in a random order was walked then. 0: all of them, -1: none.

--look: only whether an idle mount has what it should have, and no more.

One process runs the operations (it may hang if the daemon does), this one only looks at it.
Prints one line for each violation, and a summary; status 1 if there were any.
"""
import argparse
import glob
import json
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import time
import traceback

import points_ops
from points_ops import check

PATIENCE_S = 40  # one walk
FIRE_S = 0.7     # until a point must have been passed


class Unreached(Exception):
    """The point was not passed in this run."""


class Control:
    """The daemon's crash file and trace."""

    def __init__(self, workdir):
        self.list = workdir + "/crash"
        self.trace = workdir + "/trace"

    def arm(self, *points):
        with open(self.list + ".new", "w", encoding="ascii") as f:
            f.write("".join(p + "\n" for p in points))
        os.rename(self.list + ".new", self.list)

    def disarm(self):
        self.arm()

    def left(self):
        with open(self.list, encoding="ascii") as f:
            return f.read().split()

    def wait_fired(self, seconds):
        end = time.monotonic() + seconds
        while os.stat(self.list).st_size:
            if time.monotonic() > end:
                return False
            time.sleep(0.0005)
        return True

    def forget(self):
        os.truncate(self.trace, 0)

    def quiet(self, seconds=0.004):
        """Until nothing has happened in the daemon for a while."""
        end = time.monotonic() + 20
        size, since = -1, 0.0
        while time.monotonic() < end:
            now = os.stat(self.trace).st_size
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since >= seconds:
                return
            time.sleep(seconds / 4)

    def passed(self):
        """[[point, ...] of each process in its order]"""
        pids, by_pid = [], {}
        with open(self.trace, encoding="ascii") as f:
            for line in f:
                pid, _, name = line.strip().partition(" ")
                if pid not in by_pid:
                    pids.append(pid)
                    by_pid[pid] = []
                by_pid[pid].append(name)
        return [by_pid[p] for p in pids]


def counts(names):
    found = {}
    for n in names:
        found[n] = found.get(n, 0) + 1
    return found


def status(workdir, seconds=20):
    """The daemon's own report, as `vmcryptfs status --json` gives it."""
    end = time.monotonic() + seconds
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(seconds)
                s.connect(glob.glob(workdir + "/run/*.sock")[0])
                text = b""
                while piece := s.recv(65536):
                    text += piece
            return json.loads(text)
        except (OSError, ValueError, IndexError):
            if time.monotonic() > end:
                raise
            time.sleep(0.002)


class Walker:
    """Runs in its own process; tells its parent by lines of JSON what it does."""

    def __init__(self, args, out):
        self.args = args
        self.out = out
        self.control = Control(args.workdir)
        self.ops = points_ops.Ops(args.workdir, self.control)
        self.random = random.Random(args.seed)
        self.plans = []
        self.end = None

    def tell(self, **what):
        self.out.write((json.dumps(what) + "\n").encode())
        self.out.flush()

    def bound(self, seconds):
        self.end = time.monotonic() + seconds if seconds else None

    def late(self):
        return self.end is not None and time.monotonic() > self.end

    def wait_settled(self):
        end = time.monotonic() + 10
        while "takeover-settled" not in sum(self.control.passed()[1:], []):
            check(time.monotonic() < end, "no server takes over")
            time.sleep(0.005)
        self.control.quiet(0.01)

    def run(self, op, armed, follow):
        """One run; what each generation passed, from the arming to the end of the operation."""
        steps = op.fn(self.ops)
        self.ops.begin(op)
        next(steps)
        self.control.quiet()
        self.control.forget()
        self.control.arm(*armed)
        try:
            next(steps)
            if not armed:
                self.control.quiet(op.settle)
            elif not self.control.wait_fired(op.patience or FIRE_S):
                raise Unreached(self.control.left())
            if follow:
                self.wait_settled()
            passed = self.control.passed()
        finally:
            self.control.disarm()
        for _ in steps:
            raise AssertionError("an operation has two yields")
        return passed

    def walk(self, op, armed, follow=False):
        """The list of generations' points, or None."""
        name = f"{op.name} at {', '.join(armed) or '(no point)'}"
        self.tell(begin=name)
        result, passed, bad = "ok", None, None
        try:
            passed = self.run(op, armed, follow)
        except Unreached:
            result = "unreached"
        except Exception as e:  # whatever a call says that it must not say
            where = traceback.extract_tb(e.__traceback__)[-1]
            for t in traceback.extract_tb(e.__traceback__):
                if t.filename.endswith("points_ops.py"):
                    where = t
                    break
            bad = f"{type(e).__name__}: {e} (line {where.lineno}: {where.line})"
            result = "violation"
        try:
            self.ops.clean()
        except Exception as e:
            bad = f"{bad or ''} cleaning: {type(e).__name__}: {e}"
            result = "violation"
        self.tell(end=name, op=op.name, armed=list(armed), result=result, bad=bad)
        return passed

    def wanted(self, point):
        return re.search(self.args.point, point)

    def plan(self, ops):
        """Each (round, op, [point]): round 0 first passes, 1 last ones, 2 second ones."""
        found = []
        for op in ops:
            passed = self.walk(op, ())
            if not passed:
                continue
            for point, cnt in counts(sum(passed, [])).items():
                if not self.wanted(point):
                    continue
                for rank, k in enumerate(sorted({1, 2, cnt} & set(range(1, cnt + 1)))):
                    found.append((rank, op, (point if k == 1 else f"{point}:{k}",)))
                if cnt > 4:
                    found.append((2, op, (f"{point}:{self.random.randint(3, cnt - 1)}",)))
        return found

    def single_walks(self, ops):
        todo = self.plans = self.plan(ops)
        self.bound(self.args.seconds)
        if self.args.seconds:
            self.random.shuffle(todo)
            todo.sort(key=lambda t: t[0])
        done = 0
        for _, op, armed in todo:
            if self.late():
                break
            self.walk(op, armed)
            done += 1
        self.tell(planned=len(todo), walked=done)

    def seconds_of(self, op, first):
        """Where the generation after `first` could die."""
        passed = self.walk(op, (first,), follow=True)
        if not passed or len(passed) < 2:
            return []
        found = []
        for point, cnt in counts(passed[1]).items():
            ks = {1, cnt} if cnt < 3 else {1, 2, cnt}
            found += [point if k == 1 else f"{point}:{k}" for k in ks]
        return found

    def pairs(self, ops):
        """Seldom seen second points come first, else chance decides."""
        seen = {}
        plan = self.plans or self.plan(ops)
        firsts = [(op, armed[0]) for rank, op, armed in plan if rank < 2 and not op.slow]
        self.random.shuffle(firsts)
        done = 0
        while firsts and not self.late():
            op, first = firsts.pop()
            found = [q for q in self.seconds_of(op, first) if self.wanted(q)]
            self.random.shuffle(found)
            found.sort(key=lambda q: seen.get((op.name, q), 0) + 4 * (q in seen))
            for second in found[:self.args.each]:
                if self.late():
                    break
                seen[second] = seen.get(second, 0) + 1
                seen[(op.name, second)] = seen.get((op.name, second), 0) + 1
                self.walk(op, (first, second))
                done += 1
        self.tell(planned=done, walked=done)

    def main(self):
        ops = [op for op in points_ops.OPS if re.search(self.args.ops, op.name)]
        try:
            self.ops.start()
            if self.args.seconds >= 0:
                self.single_walks(ops)
            self.bound(self.args.pairs)
            if self.args.pairs:
                self.pairs([op for op in ops if not op.slow])
            self.tell(begin="the end")
            self.ops.end()
        except Exception:
            self.tell(fatal=traceback.format_exc())
        self.tell(orphans=sorted(self.ops.orphans))


class Monitor:
    """Looks at the walker, counts, and asks what was left over."""

    def __init__(self, args):
        self.args = args
        self.walks, self.unreached = 0, {}
        self.violations = []
        self.points, self.ops = set(), set()
        self.orphans = []
        self.deaths = 0

    def violation(self, text):
        self.violations.append(text)
        print(f"VIOLATION: {text}", flush=True)

    def note_end(self, m):
        fired = m["result"] == "ok" and m["armed"]
        self.ops.add(m["op"])
        if m["result"] == "unreached":
            key = (m["op"], *m["armed"])
            self.unreached[key] = self.unreached.get(key, 0) + 1
            return
        self.walks += 1
        if fired:
            self.points.update(p.partition(":")[0] for p in m["armed"])
        if m["bad"]:
            self.violation(f"{m['end']}: {m['bad']}")
        elif self.args.verbose:
            print(f"ok: {m['end']}", flush=True)

    def note(self, m):
        if "end" in m:
            self.note_end(m)
        elif "fatal" in m:
            self.violation(m["fatal"])
        elif "walked" in m:
            print(f"{m['walked']} walks of {m['planned']} planned", flush=True)
        self.orphans += m.get("orphans", [])

    def hang(self, pid, what):
        self.violation(f"{what}: no end after {PATIENCE_S} s")
        for task in glob.glob(f"/proc/{pid}/task/*"):
            for name in ("stack", "wchan", "syscall"):
                try:
                    with open(f"{task}/{name}", encoding="ascii") as f:
                        print(f"  {name}: " + f.read().strip().replace("\n", " "))
                except OSError:
                    pass
        subprocess.run(["tail", "-n", "40", self.args.workdir + "/log"], check=False)
        sys.stdout.flush()
        os.kill(pid, signal.SIGKILL)
        subprocess.run(["umount", "-f", self.args.workdir + "/mnt"], check=False)

    def watch(self):
        """Runs the walker; False if it hung."""
        r, w = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(r)
            with os.fdopen(w, "wb") as out:
                Walker(self.args, out).main()
            os._exit(0)
        os.close(w)
        doing, rest = "the start", b""
        while True:
            if not select.select([r], [], [], PATIENCE_S)[0]:
                self.hang(pid, doing)
                return False
            piece = os.read(r, 65536)
            if not piece:
                break
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                m = json.loads(line)
                doing = m.get("begin", doing)
                self.note(m)
        if os.waitpid(pid, 0)[1]:
            self.violation(f"the walker ended during {doing}")
        return True

    # --- what may be left over ---

    def files(self):
        """What keeper and server have open, but for helpers' pipes, which come and go."""
        found = []
        for fd in glob.glob(f"/proc/{self.args.keeper}/fd/*"):
            try:
                to = os.readlink(fd)
            except OSError:
                continue
            if not re.match("(pipe|socket):|anon_inode:\\[pidfd", to):
                found.append(to)
        return sorted(found)

    def containers_ids(self):
        found = set()
        for folder, _, names in os.walk(self.args.workdir + "/back"):
            for path in (os.path.join(folder, name) for name in names):
                if os.path.islink(path) or not os.path.isfile(path):
                    continue  # a FIFO would wait for a writer
                with open(path, "rb") as f:
                    head = f.read(32768)
                m = re.search(rb'"key_id":"([^"]*)"', head.replace(b"\0", b""))
                if head[:4] == b"LUKS" and m:
                    found.add(m.group(1).decode())
        return found

    def secrets(self, st):
        """(missing ones, one too many)"""
        needed = self.containers_ids()
        for site in glob.glob(self.args.workdir + "/state/*/site"):
            with open(site, encoding="ascii") as f:
                needed.add(f.read().split()[1])
        there = {n for n in os.listdir(self.args.workdir + "/keys") if not n.startswith(".")}
        spare = there - needed - set(self.orphans)
        return sorted(needed - there), len(spare) - st["key_service"]["reserve"]

    def keep_orphans(self):
        """Secrets that walks took away from the daemon: for --look."""
        with open(self.args.workdir + "/orphans", "w", encoding="ascii") as f:
            f.write("\n".join(self.orphans))

    def idle(self):
        """The counters of a mount that nobody uses, as soon as they are at rest."""
        end = time.monotonic() + 60  # the queue destroys two a second
        while True:
            with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
                f.write("2")
            st = status(self.args.workdir)
            missing, over = self.secrets(st)
            left = {"handles": st["handles"], "nodes": st["nodes"] - 1, "keys": st["keys"],
                    "parked": st["parked"], "destroy_queue": st["destroy_queue"]["waiting"],
                    "suspects": st["suspects"], "dropped_records": st["dropped_records"],
                    "poisoned": st["poisoned"], "hangs": st["hangs"],
                    "missing secrets": len(missing), "leaked secrets": over}
            if not any(left.values()) or time.monotonic() > end:
                return left, st
            time.sleep(0.3)

    def left_over(self, before):
        left, st = self.idle()
        after = self.files()
        more = sorted(set(after) - set(before)) if len(after) > len(before) else []
        left["descriptors"] = max(0, len(after) - len(before))
        print("left over: " + ", ".join(f"{k} {v}" for k, v in left.items()), flush=True)
        print(f"status: generation {st['generation']}, deaths {st['deaths']}, "
              f"replayed {st['replayed']}, resent {st['resent']}, stall {st['stall_ms']}")
        for k, v in left.items():
            if v:
                self.violation(f"left over: {k}: {v} {more if k == 'descriptors' else ''}")

    def report(self):
        for key, cnt in sorted(self.unreached.items()):
            if self.args.verbose:
                print(f"not passed this time: {', '.join(key)} ({cnt})")
        print(f"{self.walks} walks ({len(self.points)} points x {len(self.ops)} operations), "
              f"{len(self.violations)} violations; {sum(self.unreached.values())} armed points "
              f"were not passed; seed {self.args.seed}")
        if self.args.visited:
            with open(self.args.visited, "a", encoding="ascii") as f:
                f.write("".join(p + "\n" for p in sorted(self.points)))

    def main(self):
        if self.args.look:
            with open(self.args.workdir + "/orphans", encoding="ascii") as f:
                self.orphans = f.read().split()
        left, _ = self.idle()
        before = self.files()
        if self.args.look:
            print(", ".join(f"{k} {v}" for k, v in left.items()))
            return 1 if any(left.values()) else 0
        if self.watch():
            self.left_over(before)
        self.keep_orphans()
        self.report()
        return 1 if self.violations else 0


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("workdir")
    p.add_argument("keeper", type=int)
    p.add_argument("-v", "--verbose", action="store_true")
    p.add_argument("--seconds", type=float, default=0)
    p.add_argument("--pairs", type=float, default=0)
    p.add_argument("--each", type=int, default=3)
    p.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    p.add_argument("--ops", default="")
    p.add_argument("--point", default="")
    p.add_argument("--visited")
    p.add_argument("--look", action="store_true")
    return Monitor(p.parse_args()).main()


if __name__ == "__main__":
    sys.exit(main())
