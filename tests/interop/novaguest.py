# SPDX-License-Identifier: GPL-2.0-or-later
"""novaguest.py: what QEMU itself does to a whole machine; and the host that dies under it."""
import os
import threading

from novalab import (MARK, MIB, OTHER, QEMU_UID, U, equal, gone, marked, need, read, run, wait_for)


def given_to_qemu(lab, uuid):
    """As libvirt does before a start."""
    path = f"{lab.mnt['a']}/{uuid}/disk"
    os.chown(path, QEMU_UID, QEMU_UID)
    return path


def suspend(lab, a):
    with lab.row(6, "pause, suspend, resume") as said:
        a.call("spawn", U[1], OTHER, flavor={"root_gb": 0})
        path = given_to_qemu(lab, U[1])
        memory = os.path.join(lab.plain, "memory")
        with open(memory, "wb") as f:
            f.write(marked(MIB, "memory"))
        os.makedirs(f"{lab.mnt['a']}/save")
        os.chown(f"{lab.mnt['a']}/save", QEMU_UID, QEMU_UID)  # libvirt's start does it
        state = f"{lab.mnt['a']}/save/instance.save"
        machine = lab.machine({"disk": (path, lab.fmt)}, memory=memory)
        machine.write_marked("disk", 50 * MIB, 90000, "suspended")
        machine.qmp("stop")
        machine.qmp("cont")
        machine.migrate(f"exec:cat >{state}")
        machine.stop()
        need(MARK.encode() in read(state, 0, 1 << 30), "the memory is not in the saved state")
        machine = lab.machine({"disk": (path, lab.fmt)}, memory=memory,
                              incoming=f"exec:cat {state}")
        machine.arrived()
        machine.write_marked("disk", 54 * MIB, 90000, "resumed")
        machine.stop()
        for offset, seed in ((50 * MIB, "suspended"), (54 * MIB, "resumed")):
            equal("on the disk", marked(90000, seed), a.call("copy_out", path, offset, 90000))
        key = lab.key_id(state)
        os.unlink(state)
        gone(lab, [key])
        said.append("stop and cont touch no file; a machine's memory saved to a folder of the "
                    "mount (libvirt's is put there: README) and restored, its disk right; the "
                    "deleted state's secret destroyed")


def volumes(lab, a):
    with lab.row(16, "attach, detach of a volume") as said:
        path = given_to_qemu(lab, U[1])
        volume = os.path.join(lab.plain, "volume")
        with open(volume, "wb") as f:
            f.truncate(8 * MIB)
        os.chown(volume, QEMU_UID, QEMU_UID)
        before = files_below(lab), lab.key_id(path), lab.settled_secrets()
        machine = lab.machine({"disk": (path, lab.fmt)})
        machine.qmp("blockdev-add", driver="raw", **{"node-name": "volume", "file": {
            "driver": "file", "filename": volume}})
        machine.qmp("device_add", driver="scsi-hd", drive="volume", id="v")
        machine.write_marked("disk", 56 * MIB, 90000, "attached")
        machine.qmp("device_del", id="v")
        wait_for("the volume's end", lambda: detached(machine), 30)
        machine.stop()
        equal("files below, key, secrets", before,
              (files_below(lab), lab.key_id(path), lab.settled_secrets()))
        equal("on the disk", marked(90000, "attached"), a.call("copy_out", path, 56 * MIB, 90000))
        said.append("a volume from elsewhere comes and goes in a machine on its disk: no file, no "
                    "key, no secret changes here")


def detached(machine):
    try:
        machine.qmp("blockdev-del", **{"node-name": "volume"})
    except AssertionError as e:
        need("in use" in str(e), str(e))
        return False
    return True


def files_below(lab):
    found = run("find", lab.path("disk", "a"), "-type", "f", "-printf", "%P\n")
    return sorted(found.splitlines())


def shared_nodes(lab):
    """Both nodes over one backing folder."""
    lab.umount("a")
    with open(lab.path("b.conf"), encoding="utf-8") as f:
        text = f.read()
    with open(lab.path("b.conf"), "w", encoding="utf-8") as f:
        f.write(text.replace(f"backing = {lab.path('disk', 'b')}",
                             f"backing = {lab.path('disk', 'a')}"))
    for node in "ab":
        lab.mount(node, "-o", "mount.shared=yes")
    return lab.start_node("b")


def shared_migration(lab, a):
    b = shared_nodes(lab)
    with lab.row(12, "live migration, shared storage") as said:
        probe = b.call("shared_file")
        equal("the test file of the other node", True, a.call("sees_shared_file", probe))
        b.call("remove_shared_file", probe)
        equal("a removed one", False, a.call("sees_shared_file", probe))
        a.call("spawn", U[2], OTHER, flavor={"root_gb": 0})
        path = given_to_qemu(lab, U[2])
        equal("instance_on_disk there", True, b.call("on_disk", U[2]))
        wire = lab.path("sockets", "wire")
        b.call("machine_start", {"disk": (path, lab.fmt)}, incoming="unix:" + wire)
        here = lab.machine({"disk": (path, lab.fmt)})
        here.write_marked("disk", 50 * MIB, 90000, "here")
        here.migrate("unix:" + wire)
        b.call("guest_do", "arrived")
        b.call("guest_do", "write_marked", "disk", 54 * MIB, 90000, "there")
        here.stop()
        b.call("guest_do", "stop")
        for offset, seed in ((50 * MIB, "here"), (54 * MIB, "there")):
            for node in (a, b):
                equal(f"at {offset} on node {node.name}", marked(90000, seed),
                      node.call("copy_out", path, offset, 90000))
        a.call("content_ok", path, OTHER)
        b.call("delete", U[2])
        need(not os.path.exists(os.path.dirname(path)), "a deleted instance is seen here")
        said.append("two daemons, one folder, shared = yes: Nova finds it shared; a QEMU machine "
                    "goes live to the other node with its locks; both nodes read what it wrote "
                    "on either; deleted there, gone here (a booted guest: libvirt-shared.sh)")
    b.stop()
    del lab.nodes["b"]
    for node in "ba":
        lab.umount(node)
    lab.mount()


def host_crash(lab, a):
    with lab.row(20, "host crash") as said:
        for uuid in U[3:5]:
            a.call("spawn", uuid, OTHER, flavor={"root_gb": 0})
        paths = [given_to_qemu(lab, u) for u in U[3:5]]
        run("sync", "-f", lab.path("disk"))
        guest = lab.guest({"disk": (paths[0], lab.fmt)}, uid=QEMU_UID)
        acknowledged = written_until_crash(lab, guest)
        lab.power_on()
        a.call("content_ok", paths[0], OTHER)
        a.call("content_ok", paths[1], OTHER)
        for n in range(acknowledged):
            equal(f"acknowledged write {n}", marked(50000 // 512 * 512, f"crash{n}"),
                  a.call("copy_out", paths[0], 48 * MIB + n * 50176 + 512, 50000 // 512 * 512))
        a.call("delete", U[3])
        said.append(f"the medium fails at once (ext4's shutdown without its journal) while a guest "
                    f"writes, all processes killed: after the recovery all {acknowledged} flushed "
                    "writes and the images are right (each single write: tests/crash)")


def written_until_crash(lab, guest):
    """How many writes of a guest were flushed when the host died."""
    count, enough = [0], threading.Event()

    def write():
        try:
            for n in range(200):
                guest.write_marked("disk", 48 * MIB + n * 50176 + 512, 50000 // 512 * 512,
                                   f"crash{n}")
                count[0] = n + 1
                if n == 12:
                    enough.set()
        except AssertionError:
            pass  # the crash

    thread = threading.Thread(target=write)
    thread.start()
    need(enough.wait(60), "the guest does not write")
    lab.power_off(guest)
    thread.join()
    return count[0]


def group(lab, a):
    suspend(lab, a)
    volumes(lab, a)
    shared_migration(lab, a)
    host_crash(lab, a)
