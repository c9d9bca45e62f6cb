#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""golden.py: the golden containers (tests/golden), read by contrib/luksread.py alone.

usage: golden.py SOURCE-FOLDER WORK-FOLDER
What they hold is defined in tests/golden/golden.h.
"""
import os
import struct
import subprocess
import sys

SECTORS, HOLE, TAIL = 3, 1, 100


def expand(pages, out):
    with open(pages, "rb") as f, open(out, "wb") as o:
        assert f.read(8) == b"VCFPAGES"
        size, = struct.unpack("<Q", f.read(8))
        while head := f.read(8):
            o.seek(struct.unpack("<Q", head)[0])
            o.write(f.read(4096))
        o.truncate(size)  # the last page may reach beyond the end


def wanted(sector):
    data = bytearray((p * 131 + p // 256 + 7) & 0xFF for p in range(SECTORS * sector + TAIL))
    data[HOLE * sector:(HOLE + 1) * sector] = bytes(sector)
    return bytes(data)


def main(top, work):
    golden = os.path.join(top, "tests", "golden")
    secret = os.path.join(work, "secret")
    with open(secret, "w", encoding="ascii") as f:
        f.write(bytes(range(32)).hex())
    names = sorted(n for n in os.listdir(golden) if n.endswith(".pages"))
    assert len(names) >= 3
    for name in names:
        container, plain = os.path.join(work, "container"), os.path.join(work, "plain")
        expand(os.path.join(golden, name), container)
        subprocess.run([sys.executable, os.path.join(top, "contrib", "luksread.py"), container,
                        secret, plain], check=True)
        with open(plain, "rb") as f:
            assert f.read() == wanted(4096 if "4096" in name else 512), name
        print(f"ok: {name}")


main(*sys.argv[1:])
