#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""novaops.py: the operations of Nova on a mount; called by nova.sh.

usage: novaops.py GROUP FORMAT FOLDER

One line is printed for each operation, with the numbers of contrib/doc/nova.md. What the groups
are made of: novalab.py (mounts, nodes, guests, the watcher) and novadriver.py (Nova).
"""
import os
import sys

import novacreate
import novadriver  # before any fork: it takes seconds  # pylint: disable=unused-import
import novaguest
import novalife
import novamove
import novasafe
from novalab import IMAGE, Lab, MIB, OTHER, SMALL, marked

GROUPS = {"create": novacreate, "guest": novaguest, "life": novalife, "move": novamove, "safe": novasafe}


def main():
    group, fmt, folder = sys.argv[1:]
    lab = Lab(folder, fmt)
    lab.watch()
    lab.make_image(IMAGE, "raw", 16 * MIB)
    lab.make_image(OTHER, "qcow2", 64 * MIB)
    with open(os.path.join(lab.glance, SMALL + ".raw"), "wb") as f:
        f.write(marked(123457, "kernel"))
    lab.mount()
    try:
        a = lab.start_node("a")
        GROUPS[group].group(lab, a)
    finally:
        lab.end()
    for node in "ab":
        if lab.daemons(node):
            lab.umount(node)


main()
