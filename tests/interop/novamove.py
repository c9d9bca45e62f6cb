# SPDX-License-Identifier: GPL-2.0-or-later
"""novamove.py: from node to node, and on one node through _resize."""
import os

from novalab import (MIB, GIB, OTHER, U, blocks, equal, gone, holes_kept, marked, need, run)


# As large as the image, which is small: scp copies the zeros, too.
MOVED, GROWN = {"root_gb": 0, "swap": 16}, {"root_gb": 1, "swap": 16}


def spawned_for_move(lab, a, uuid, seed):
    home = f"{lab.mnt['a']}/{uuid}"
    a.call("spawn", uuid, OTHER, flavor=MOVED)
    guest = lab.guest({"disk": (home + "/disk", lab.fmt)})
    guest.write_marked("disk", 50 * MIB, 90000, seed)
    guest.stop()
    return home


def arrived(node, path, seed):
    node.call("content_ok", path, OTHER)
    equal("what the guest wrote", marked(90000, seed), node.call("copy_out", path, 50 * MIB, 90000))


def cold_migration(lab, a, b, transport, uuid):
    with lab.row(10, f"cold migration by {transport}, confirm") as said:
        home = spawned_for_move(lab, a, uuid, transport)
        old = lab.key_id(f"{home}/disk")
        info = a.call("migrate", uuid, OTHER, "localhost", flavor=MOVED)
        equal("renamed", [True, False], [os.path.exists(home + "_resize"), os.path.exists(home)])
        equal("the old key lives", old, lab.key_id(f"{home}_resize/disk"))
        b.call("finish_migration", uuid, OTHER, info, flavor=MOVED)
        arrived(b, f"{home}/disk", transport)
        equal("swap made anew", True, b.call("exists", f"{home}/disk.swap"))
        equal("disk.info", a.call("read", f"{home}_resize/disk.info", 999),
              b.call("read", f"{home}/disk.info", 999))
        new = lab.key_id(f"{home}/disk", "b")
        need(new != old, "the key came along")
        sparse = blocks(lab, f"{home}/disk", "b") // MIB
        need(transport != "rsync" or sparse < 24, f"{sparse} MiB: not sparse")
        a.call("confirm", uuid)
        need(not os.path.exists(home + "_resize"), "_resize is there")
        gone(lab, [old])
        arrived(b, f"{home}/disk", transport)
        said.append(f"the test file of shared storage, _resize, copy, swap made anew, disk.info; "
                    f"another key there, {sparse} MiB below; confirm destroys the old secret")


def revert(lab, a, b, uuid):
    with lab.row(10, "resize to the other node, revert") as said:
        home = spawned_for_move(lab, a, uuid, "revert")
        old = lab.key_id(f"{home}/disk")
        info = a.call("migrate", uuid, OTHER, "localhost", flavor=MOVED)
        b.call("finish_migration", uuid, OTHER, info, flavor=GROWN)
        equal("grown", GIB, b.call("image_info", f"{home}/disk")["virtual"])
        new = lab.key_id(f"{home}/disk", "b")
        b.call("delete", uuid)
        a.call("revert", uuid)
        arrived(a, f"{home}/disk", "revert")
        equal("the key", old, lab.key_id(f"{home}/disk"))
        gone(lab, [new])
        need(old in lab.secrets(), "the old secret is gone")
        said.append("grown there; undone: the folder renamed back, its old key valid, the other "
                    "one destroyed")


def same_host(lab, a, uuid):
    with lab.row(10, "resize on the same node") as said:
        home = spawned_for_move(lab, a, uuid, "same")
        old = lab.key_id(f"{home}/disk")
        info = a.call("migrate", uuid, OTHER, "192.0.2.1", flavor=GROWN)
        a.call("finish_migration", uuid, OTHER, info, flavor=GROWN)
        arrived(a, f"{home}/disk", "same")
        equal("grown", GIB, a.call("image_info", f"{home}/disk")["virtual"])
        need(lab.key_id(f"{home}/disk") != old, "a copy with the key of its source")
        holes_kept(f"{home}/disk", lab.below(f"{home}/disk"))
        a.call("confirm", uuid)
        gone(lab, [old])
        said.append("cp -r from _resize, grown; the copy has a key of its own; sparse")


def block_migration(lab, a, b, uuid):
    with lab.row(11, "live block migration") as said:
        home = spawned_for_move(lab, a, uuid, "live")
        path = f"{home}/disk"
        disk = [d for d in a.call("disk_info", uuid) if d["path"] == path]
        b.call("prepare_block_migration", uuid, OTHER, disk)
        if lab.fmt == "raw":
            equal("an empty disk below", 66 * MIB, os.stat(lab.below(path, "b")).st_size)
        there = b.call("guest_start", {"disk": (path, lab.fmt)})
        a.call("guest_start", {"disk": (path, lab.fmt)})
        a.call("guest_do", "qmp", "blockdev-add", **{
            "driver": "nbd", "node-name": "there", "export": "disk", "detect-zeroes": "unmap",
            "discard": "unmap", "server": {"type": "unix", "path": there + ".nbd"}})
        a.call("guest_do", "mirror", "disk", "there", "full" if lab.fmt == "raw" else "top")
        a.call("guest_do", "write_marked", "disk", 56 * MIB, 60000, "meanwhile")
        a.call("guest_do", "end_mirror")
        a.call("guest_do", "stop")
        b.call("guest_do", "stop")
        arrived(b, path, "live")
        equal("written meanwhile", marked(60000, "meanwhile"),
              b.call("copy_out", path, 56 * MIB, 60000))
        sparse = blocks(lab, path, "b") // MIB
        need(sparse < 24, f"{sparse} MiB: not sparse")
        old = lab.key_id(path)
        a.call("delete", uuid)
        gone(lab, [old])
        said.append(f"empty disk made there, QEMU's mirror over NBD with writes meanwhile, zeros "
                    f"detected: {sparse} MiB below; source deleted (without a domain: see libvirt)")


def evacuate(lab, a, b, uuid):
    with lab.row(13, "evacuate") as said:
        home = spawned_for_move(lab, a, uuid, "evacuated")
        old = lab.key_id(f"{home}/disk")
        b.call("spawn", uuid, OTHER)
        b.call("content_ok", f"{home}/disk", OTHER)
        need(lab.key_id(f"{home}/disk", "b") != old, "the same key")
        b.call("delete", uuid)
        # The dead node's medium in the other one: its container opens by the key service alone.
        run("cp", "-r", "--sparse=always", lab.below(home), lab.path("disk", "b"))
        arrived(b, f"{home}/disk", "evacuated")
        equal("the key", old, lab.key_id(f"{home}/disk", "b"))
        said.append("from the image, with a new key; and the dead node's containers, copied below, "
                    "open at the other one")


def group(lab, a):
    lab.mount("b")
    b = lab.start_node("b", **{"libvirt.remote_filesystem_transport": "ssh"})
    cold_migration(lab, a, b, "ssh", U[1])
    revert(lab, a, b, U[2])
    same_host(lab, a, U[3])
    a.call("use_transport", "rsync")
    cold_migration(lab, a, b, "rsync", U[4])
    block_migration(lab, a, b, U[5])
    evacuate(lab, a, b, U[6])
