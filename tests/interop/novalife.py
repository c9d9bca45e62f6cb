# SPDX-License-Identifier: GPL-2.0-or-later
"""novalife.py: what happens to an instance on one node, from reboot to delete."""
import glob
import os
import time

from novalab import (MIB, QEMU_UID, IMAGE, OTHER, SNAP, U, base_of, disks, equal, gone, marked,
                     need, run, wait_for)


def reboot(lab, a):
    with lab.row(5, "hard reboot, host boot") as said:
        paths = {u: f"{lab.mnt['a']}/{u}/disk" for u in U[1:4]}
        for n, (uuid, path) in enumerate(paths.items()):
            a.call("spawn", uuid, OTHER, flavor={"root_gb": 0})
            guest = lab.guest({"disk": (path, lab.fmt)})
            guest.write_marked("disk", 50 * MIB, 100000, f"boot{n}")
            guest.stop()
        lab.umount()
        run("ls", lab.mnt["a"])
        lab.mount()
        begin = time.monotonic()
        guests = [lab.guest({"disk": (p, lab.fmt)}) for p in paths.values()]
        took = time.monotonic() - begin
        for n, guest in enumerate(guests):
            guest.stop()
            equal("content", marked(100000, f"boot{n}"),
                  a.call("copy_out", list(paths.values())[n], 50 * MIB, 100000))
        said.append(f"unmount, mount, three guests at once on what they wrote ({took:.1f} s)")


def rescue(lab, a):
    with lab.row(7, "rescue, unrescue") as said:
        home = f"{lab.mnt['a']}/{U[1]}"
        a.call("rescue", U[1], IMAGE)
        made = sorted(os.path.basename(p) for p in glob.glob(home + "/*.rescue"))
        equal("made", ["disk.config.rescue", "disk.rescue"], made)
        keys = [lab.key_id(f"{home}/{n}") for n in made]
        guest = lab.guest({"disk": (f"{home}/disk.rescue", lab.fmt),
                           "old": (f"{home}/disk", lab.fmt)})
        guest.write_marked("old", 52 * MIB, 70000, "mended")
        guest.stop()
        a.call("unrescue", U[1])
        equal("left", [], glob.glob(home + "/*rescue*"))
        equal("mended", marked(70000, "mended"),
              a.call("copy_out", home + "/disk", 52 * MIB, 70000))
        gone(lab, keys)
        said.append("unrescue.xml, disk.rescue, disk.config.rescue; both disks in one QEMU; "
                    "unlinked, their secrets destroyed")


def snapshots(lab, a):
    home = f"{lab.mnt['a']}/{U[2]}"
    with lab.row(8, "snapshot, cold") as said:
        a.call("snapshot", U[2], SNAP)
        check_snapshot(lab, SNAP, {50 * MIB: marked(100000, "boot1")})
        equal("left in snapshots", [], os.listdir(f"{lab.mnt['a']}/snapshots"))
        said.append("qemu-img convert to snapshots/, uploaded, removed")
    with lab.row(8, "snapshot, live") as said:
        os.chown(home + "/disk", QEMU_UID, QEMU_UID)
        a.call("guest_start", {"disk": (home + "/disk", lab.fmt)}, uid=QEMU_UID)
        a.call("guest_do", "write_marked", "disk", 54 * MIB, 80000, "running")
        live = SNAP.replace("d", "e")
        a.call("live_snapshot", U[2], live)
        a.call("guest_do", "write_marked", "disk", 60 * MIB, 80000, "later")
        a.call("guest_do", "stop")
        equal("what the guest wrote later", marked(80000, "later"),
              a.call("copy_out", home + "/disk", 60 * MIB, 80000))
        check_snapshot(lab, live, {50 * MIB: marked(100000, "boot1"),
                                   54 * MIB: marked(80000, "running"), 60 * MIB: bytes(80000)})
        equal("left in snapshots", [], os.listdir(f"{lab.mnt['a']}/snapshots"))
        said.append(".delta given to QEMU's user, mirrored by the running QEMU, chown back, "
                    "converted, removed; the guest went on")


def check_snapshot(lab, image, wanted):
    with open(lab.content(glob.glob(f"{lab.glance}/{image}.*")[0]), "rb") as f:
        for offset, data in wanted.items():
            f.seek(offset)
            need(f.read(len(data)) == data, f"the snapshot at {offset}")


def shelve(lab, a):
    with lab.row(9, "shelve, offload, unshelve") as said:
        shelved = SNAP.replace("d", "f")
        path = f"{lab.mnt['a']}/{U[3]}/disk"
        old = lab.key_id(path)
        a.call("snapshot", U[3], shelved)
        a.call("delete", U[3])
        a.call("unshelve", U[3], shelved, OTHER)
        equal("content", marked(100000, "boot2"), a.call("copy_out", path, 50 * MIB, 100000))
        info = a.call("image_info", path)
        equal("backing", f"{lab.mnt['a']}/{base_of(OTHER)}" if lab.fmt == "qcow2" else None,
              info["backing"])
        need(lab.key_id(path) != old, "the old key")
        gone(lab, [old])
        said.append("snapshot, delete, create from it" +
                    (", qemu-img rebase to the first base" if lab.fmt == "qcow2" else "") +
                    "; a new key, the old one destroyed")


def delete(lab, a):
    with lab.row(14, "delete") as said:
        home = f"{lab.mnt['a']}/{U[1]}"
        named = disks(home, "disk", "disk.config")
        keys = [lab.key_id(p) for p in named]
        held = [os.open(lab.below(p), os.O_RDONLY) for p in named]
        equal("headers", [b"LUKS\xba\xbe"] * 2, [os.pread(fd, 6, 0) for fd in held])
        guest = lab.guest({"disk": (f"{home}/disk", lab.fmt)})
        lab.fault("get unavailable", "new unavailable", "destroy unavailable", "find unavailable",
                  "ping unavailable", "list unavailable")
        took = a.call("delete", U[1])
        need(took < 10, f"{took} s while the key service is down")
        guest.write_marked("disk", 58 * MIB, 5000, "deleted")
        guest.io("disk", "read 0 1M")
        equal("the header while a handle lives", b"LUKS", os.pread(held[0], 4, 0))
        equal("the header of the other", False, os.pread(held[1], 4096, 0)[:4] == b"LUKS")
        guest.stop()
        wait_for("the wiped header", lambda: os.pread(held[0], 4096, 0)[:4] != b"LUKS")
        for fd in held:
            os.close(fd)
        time.sleep(1.5)
        need(set(keys) <= lab.secrets(), "destroyed without a service?")
        need(lab.status()["destroy_queue"]["waiting"] >= 2, "nothing waits to be destroyed")
        lab.fault()
        run(lab.program, "upgrade", lab.mnt["a"])  # asks at once, not a minute after the failure
        gone(lab, keys)
        said.append(f"_del, rmtree in {took:.2f} s with the key service down; an open disk serves "
                    "its guest on, its header goes with the last handle; secrets destroyed when "
                    "the service is back (asked by a new server at once)")


def group(lab, a):
    reboot(lab, a)
    rescue(lab, a)
    snapshots(lab, a)
    shelve(lab, a)
    delete(lab, a)
