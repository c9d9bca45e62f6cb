#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps images busy: busyimages.py FOLDER COUNT SECONDS [THREADS]. Image i gets a share of the requests that falls with i."""
import os, random, sys, threading, time

folder, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
threads = int(sys.argv[4]) if len(sys.argv) > 4 else 1
block = bytes(4096)
fds = []
for i in range(count):
    fds.append(os.open(f"{folder}/guest-{i:03}", os.O_RDWR | os.O_CREAT, 0o644))
    os.pwrite(fds[-1], block, 15 * 4096)
print("ready", flush=True)
end = time.monotonic() + seconds


def work():
    while time.monotonic() < end:
        for i in range(count):
            if random.random() < 10 / (10 + i):
                os.pwrite(fds[i], block, random.randrange(16) * 4096)
                os.pread(fds[i], 4096, 0)
                time.sleep(0.0002)


ts = [threading.Thread(target=work) for _ in range(threads)]
for t in ts:
    t.start()
for t in ts:
    t.join()
