#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
# Plays systemd's side of sd_notify(3): SOCKET LOG; each datagram becomes one line "TIME NAME=VALUE|...".
import os
import socket
import sys
import time

name, log = sys.argv[1:]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("\0" + name[1:] if name.startswith("@") else name)
with open(log, "w", buffering=1) as out:
    while os.path.exists(log):
        data = s.recv(4096).decode()
        out.write(f"{time.monotonic():.1f} {data.strip().replace(chr(10), '|')}\n")
