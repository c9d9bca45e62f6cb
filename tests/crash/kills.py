#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Kills the serving process of a mount, again and again, and tells what programs felt of it.

usage: kills.py kill KEEPER MOUNTPOINT COUNT LOG [MS-MS[*WEIGHT]...]
           SIGKILL to the keeper's server, COUNT times or until SIGTERM, each time as many
           milliseconds after it was started as one of the ranges says (default: mostly 5 to 400;
           some at once, while it takes over). LOG gets a line "NS PID TIME" for each (NS: CLOCK_MONOTONIC).
           Asks /proc alone, never the mount. If no next server comes for a minute: ends the
           connection, which frees whoever waits for it (umount -f), and status 1.
       kills.py stalls LOG GAPS
           GAPS has lines "BEGIN END": no program's call ended in between. The stall of a death
           is the longest gap between it and the next. Prints one JSON object.
"""
import bisect
import datetime
import json
import os
import random
import signal
import subprocess
import sys
import time

RANGES = "0-5*1 5-40*4 40-400*5"
PATIENCE_S = 60
told = False


def on_term(_sig, _frame):
    global told
    told = True


def children(keeper):
    try:
        with open(f"/proc/{keeper}/task/{keeper}/children") as f:
            return [int(p) for p in f.read().split()]
    except OSError:
        return []


def program(pid):
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return None


def is_server(pid, keeper):
    """A helper has the keeper's program from its fork to its exec, but one thread."""
    try:
        return program(pid) == program(keeper) and len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def find_server(keeper, dead):
    return next((p for p in children(keeper) if p != dead and is_server(p, keeper)), None)


def next_server(keeper, dead):
    end = time.monotonic() + PATIENCE_S
    while not told and program(keeper) and time.monotonic() < end:
        server = find_server(keeper, dead)
        if server:
            return server
        time.sleep(0.0003)
    return None


def choose(ranges):
    weights, spans = [], []
    for r in ranges:
        span, _, weight = r.partition("*")
        spans.append([float(ms) for ms in span.split("-")])
        weights.append(float(weight or 1))
    return random.uniform(*random.choices(spans, weights)[0]) / 1000


def kill_once(keeper, dead, ranges, log):
    while server := next_server(keeper, dead):
        time.sleep(choose(ranges))
        if told:
            return None
        if not is_server(server, keeper):
            continue
        now = time.monotonic_ns()
        os.kill(server, signal.SIGKILL)
        log.write(f"{now} {server} {datetime.datetime.utcnow():%H:%M:%S.%f}\n")
        return server
    return None


def kill(keeper, mountpoint, count, path, ranges):
    done, dead = 0, None
    signal.signal(signal.SIGTERM, on_term)
    with open(path, "a") as log:
        while done < count and not told:
            dead = kill_once(keeper, dead, ranges, log)
            if not dead:
                break
            done += 1
    if not told and done < count:
        print(f"kills.py: no server after {done} kills; children: {children(keeper)}",
              file=sys.stderr)
        subprocess.run(["umount", "-f", mountpoint], check=False)
        return 1
    return 0


def longest(gaps, ends, begin, end):
    """The longest gap that touches [begin, end); gaps sorted by their ends."""
    most = 0
    for g in gaps[bisect.bisect_right(ends, begin):]:
        if g[0] < end:
            most = max(most, g[1] - g[0])
        elif g[0] > end + 10 ** 9:
            break
    return most


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0


def stalls(log, gap_file):
    with open(log) as f:
        kills = [int(line.split()[0]) for line in f]
    with open(gap_file) as f:
        gaps = sorted((tuple(map(int, line.split())) for line in f), key=lambda g: g[1])
    ends = [g[1] for g in gaps]
    found = []
    for i, at in enumerate(kills):
        until = kills[i + 1] if i + 1 < len(kills) else at + 10 ** 9
        found.append(longest(gaps, ends, at, until) / 1e6)
    first = kills[0] if kills else sys.maxsize
    print(json.dumps({
        "kills": len(kills), "median_ms": round(percentile(found, 0.5), 1),
        "p99_ms": round(percentile(found, 0.99), 1), "max_ms": round(max(found, default=0), 1),
        "without_ms": round(longest(gaps, ends, 0, first) / 1e6, 1)}))
    return 0


def main(argv):
    if len(argv) >= 6 and argv[1] == "kill":
        return kill(int(argv[2]), argv[3], int(argv[4]), argv[5], argv[6:] or RANGES.split())
    if len(argv) == 4 and argv[1] == "stalls":
        return stalls(argv[2], argv[3])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
