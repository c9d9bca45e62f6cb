# SPDX-License-Identifier: GPL-2.0-or-later
"""novacreate.py: disks from nothing, their use, the image cache; the service's start."""
import glob
import json
import os
import subprocess
import threading
import time

from novalab import (MARK, MIB, GIB, QEMU_UID, IMAGE, OTHER, SMALL, U, base_of,
                     blocks, disks, equal, gone, holes_kept, marked, need, promoted, read, run)


def start(lab, a):
    with lab.row(1, "service start") as said:
        with open(lab.mnt["a"] + "/first.tmp", "w", encoding="ascii") as f:
            f.write("makes the site secret")
        os.unlink(lab.mnt["a"] + "/first.tmp")
        before = lab.settled_secrets()
        gb = a.call("start_service")
        st = os.statvfs(lab.path("disk"))
        equal("DISK_GB", st.f_frsize * st.f_blocks / GIB, gb["total"])
        equal("secrets made", set(), lab.settled_secrets() - before)
        with open(lab.path("disk", "a", "compute_nodes"), encoding="ascii") as f:
            need("node-a" in json.load(f), "compute_nodes is not in the clear")
        os.chown(lab.mnt["a"], QEMU_UID, QEMU_UID)
        a.call("probe_as", QEMU_UID)
        os.chown(lab.mnt["a"], 0, 0)
        said.append("O_DIRECT probe: cache=none; compute_nodes; shared-storage file; fallocate; "
                    "statvfs is the backing's; no secret made; the same as another uid")


def create(lab, a):
    number = 2 if lab.fmt == "raw" else 3
    with lab.row(number, "create") as said:
        for uuid, image in ((U[1], IMAGE), (U[2], IMAGE), (U[3], OTHER)):
            a.call("spawn", uuid, image)
            a.call("content_ok", f"{lab.mnt['a']}/{uuid}/disk", image)
        downloads = open(os.path.join(lab.glance, "downloads"), encoding="ascii").read().split()
        equal("downloads", sorted([IMAGE, OTHER]), sorted(downloads))
        equal("left over in _base", 2, len(os.listdir(f"{lab.mnt['a']}/_base")))
        two = [f"{lab.mnt['a']}/{u}/disk" for u in U[1:3]]
        need(lab.key_id(two[0]) != lab.key_id(two[1]), "two disks with one key")
        need(body(lab, two[0]) != body(lab, two[1]), "two disks with the same ciphertext")
        for image in (IMAGE, OTHER):
            base = f"{lab.mnt['a']}/{base_of(image)}"
            room = holes_kept(base, lab.below(base))
            need(image == IMAGE or room * 512 < 12 * MIB, f"the base is not sparse: {room}")
            promoted(lab, base)
        info = a.call("image_info", two[0])
        equal("virtual size", GIB, info["virtual"])
        equal("backing file", f"{lab.mnt['a']}/{base_of(IMAGE)}" if number == 3 else None,
              info["backing"])
        boot(lab, a, two)
        said.append(".part, .converted, rename, cp or overlay, grow, disk.info, console.log; from "
                    "raw and qcow2; one download for two disks; keys and ciphertext differ; base "
                    "sparse, with a key of its own after the rename; two guests with another uid")
    with lab.row(number, "create, preallocated") as said:
        a.call("preallocated", U[4], IMAGE)
        disk = f"{lab.mnt['a']}/{U[4]}/disk"
        need(os.stat(lab.below(disk)).st_blocks * 512 >= 64 * MIB, "no room was allocated")
        equal("size", 64 * MIB, os.stat(disk).st_size)
        said.append("fallocate -n keeps the size, takes the room")


def body(lab, path):
    with open(lab.below(path), "rb") as f:
        f.seek(2 * MIB)
        return f.read(8 * MIB)


def boot(lab, a, paths):
    """Both guests at once, with QEMU's user as the owner; each writes and reads back."""
    names = []
    for n, path in enumerate(paths):
        os.chown(path, QEMU_UID, QEMU_UID)
        names.append(lab.guest({"disk": (path, lab.fmt)}, uid=QEMU_UID))
        names[n].write_marked("disk", 540 * MIB + 512, 300000, f"guest{n}")
    equal("instance_on_disk", True, a.call("on_disk", os.path.basename(os.path.dirname(paths[0]))))
    for n, path in enumerate(paths):
        names[n].stop()
        equal("what the guest wrote", marked(300000, f"guest{n}"),
              a.call("copy_out", path, 540 * MIB + 512, 300000))


def other_disks(lab, a):
    with lab.row(4, "ephemeral, swap, config drive, kernel") as said:
        flavor = {"ephemeral_gb": 1, "swap": 16}
        a.call("spawn", U[5], IMAGE, flavor=flavor)
        a.call("kernel", U[5], SMALL, OTHER)
        home = f"{lab.mnt['a']}/{U[5]}"
        local = lab.content(f"{home}/disk.local")
        equal("label", "ephemeral0", run("e2label", local).strip())
        run("e2fsck", "-fn", local)
        need(read(local, 900 * MIB, MIB) == bytes(MIB), "a hole is not zeros")
        swap = lab.content(f"{home}/disk.swap")
        need(b"SWAPSPACE2" == read(swap, 4086, 10), "no swap signature")
        iso = f"{home}/disk.config"
        size = os.stat(iso).st_size
        equal("the ISO's size modulo 4096", 2048, size % 4096)
        shown = run("isoinfo", "-i", iso, "-R", "-x", "/openstack/latest/user_data")
        equal("user_data", MARK * 50, shown)
        need(read(f"{home}/kernel", 0, GIB) == read(lab.image(SMALL), 0, GIB), "kernel")
        keys = {lab.key_id(p) for p in disks(home, "disk", "disk.local", "disk.swap", "disk.config",
                                             "kernel", "ramdisk")}
        equal("different keys", 6, len(keys))
        vfat = a.call("vfat_config_drive", U[5])
        equal("vfat's size", 64 * MIB, os.stat(iso).st_size)
        equal("user_data, vfat", MARK * 50, mounted(iso, "openstack/latest/user_data"))
        said.append(f"mkfs.ext4 and label, mkswap, ISO of {size} bytes, {vfat}, "
                    "kernel and ramdisk; six disks, six keys; holes read as zeros")


def mounted(image, name):
    folder = "/run/vcf-nova-" + str(os.getpid())
    os.makedirs(folder, exist_ok=True)
    run("mount", "-o", "loop,ro", image, folder)
    try:
        with open(os.path.join(folder, name), encoding="ascii") as f:
            return f.read()
    finally:
        run("umount", folder)
        os.rmdir(folder)


def rebuild(lab, a):
    with lab.row(15, "rebuild") as said:
        home = f"{lab.mnt['a']}/{U[5]}"
        names = disks(home, "disk", "disk.config")
        before = [lab.key_id(p) for p in names]
        kept = lab.key_id(f"{home}/disk.local")
        for path in names:
            os.unlink(path)
        a.call("spawn", U[5], OTHER, flavor={"ephemeral_gb": 1, "swap": 16})
        a.call("content_ok", f"{home}/disk", OTHER)
        for path, old in zip(names, before):
            need(lab.key_id(path) != old, f"{path} has its old key")
        equal("the ephemeral disk's key", kept, lab.key_id(f"{home}/disk.local"))
        gone(lab, before)
        said.append("new disks have new keys, the old secrets are destroyed; preserve_ephemeral: "
                    "that disk keeps its key")


def in_use(lab, a):
    with lab.row(18, "qemu-img info in use") as said:
        path = f"{lab.mnt['a']}/{U[1]}/disk"
        guest = lab.guest({"disk": (path, lab.fmt)})
        stop = threading.Event()

        def write():
            while not stop.is_set():
                guest.write_marked("disk", 600 * MIB, MIB, "busy")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(3):
                info = a.call("disk_info", U[1])[0]
                equal("virtual size", GIB, info["virt_disk_size"])
                equal("backing", os.path.basename(base_of(IMAGE)) if lab.fmt == "qcow2" else "",
                      info["backing_file"])
                below = os.stat(lab.below(path)).st_blocks * 512
                need(abs(below - info["disk_size"]) < 4 * MIB, f"{info['disk_size']} of {below}")
        finally:
            stop.set()
            writer.join()
        guest.stop()
        second_writer(lab, a, path)
        said.append("three times while a guest writes: size, backing file, st_blocks right; a "
                    "second QEMU that would write is refused by OFD locks; they end with their "
                    "owner")


def second_writer(lab, a, path):
    """A machine's disk is its own (an NBD export's is not): OFD locks through the mount."""
    machine = lab.machine({"disk": (path, lab.fmt)}, alone=True)

    def refused():
        done = subprocess.run(["qemu-io", "-f", lab.fmt, "-c", "write 0 0", path],
                              capture_output=True, text=True, check=False)
        return done.returncode and 'Failed to get "write" lock' in done.stderr

    try:
        need(refused(), "a second writer is let in")
        equal("virtual size", GIB, a.call("image_info", path)["virtual"])
    finally:
        machine.process.kill()
        machine.stop()
    need(not refused(), "the lock outlives its owner")


def discard(lab, a):
    with lab.row(19, "discard") as said:
        path = f"{lab.mnt['a']}/{U[2]}/disk"
        guest = lab.guest({"disk": (path, lab.fmt)})
        guest.write_marked("disk", 700 * MIB, 8 * MIB, "discarded")
        full = blocks(lab, path)
        guest.io("disk", f"discard {700 * MIB} {8 * MIB}", f"read -P 0 {700 * MIB} {8 * MIB}")
        freed = full - blocks(lab, path)
        need(freed >= 7 * MIB, f"only {freed} bytes came back")
        guest.io("disk", f"write -P 1 {710 * MIB} {4 * MIB}", "flush")
        full = blocks(lab, path)
        guest.io("disk", f"write -z {710 * MIB} {4 * MIB}", f"write -P 0 {720 * MIB} {4 * MIB}",
                 f"read -P 0 {710 * MIB} {16 * MIB}", "flush")
        need(blocks(lab, path) <= full + MIB, "zeros took room")
        guest.stop()
        said.append(f"8 MiB discarded: {freed // MIB} MiB less below, "
                    "zeros read; write-zeroes and detect-zeroes take no room")


def ageing(lab, a):
    with lab.row(17, "image cache ageing") as said:
        base = f"{lab.mnt['a']}/{base_of(IMAGE)}"
        unused = f"{lab.mnt['a']}/{base_of(OTHER)}"
        used = [(U[1], IMAGE), (U[2], IMAGE), (U[4], IMAGE)]
        for uuid in (U[3], U[5]):
            a.call("delete", uuid)
        run("sync", "-f", lab.path("disk"))
        usage = a.call("age_images", used, remove=False)
        below = sum(os.stat(lab.below(p)).st_blocks * 512
                    for p in glob.glob(f"{lab.mnt['a']}/_base/*"))
        files = len(os.listdir(f"{lab.mnt['a']}/_base"))
        need(0 <= below - usage <= files * 2 * MIB + 65536, f"usage {usage}, below {below}")
        need(time.time() - os.stat(base).st_mtime < 100, "a used base was not touched")
        old = 1_600_000_000_123_456_789
        os.utime(unused, ns=(old, old))
        equal("mtime", old, os.stat(unused).st_mtime_ns)
        equal("mtime below", old, os.stat(lab.below(unused)).st_mtime_ns)
        key = lab.key_id(unused)
        held = os.open(lab.below(unused), os.O_RDONLY)
        a.call("age_images", used)
        need(not os.path.exists(unused), "the unused base is there")
        need(os.path.exists(base), "a used base was removed")
        need(os.pread(held, 4096, 0)[:4] != b"LUKS", "the header is there")
        os.close(held)
        equal("st_dev", os.stat(lab.mnt["a"]).st_dev, os.stat(f"{lab.mnt['a']}/_base").st_dev)
        gone(lab, [key])
        a.call("content_ok", f"{lab.mnt['a']}/{U[1]}/disk", IMAGE)
        said.append("utime to the nanosecond; st_blocks without header; one st_dev; the unused "
                    "base is removed, its header wiped, its secret destroyed; the used one stays")


def group(lab, a):
    start(lab, a)
    create(lab, a)
    other_disks(lab, a)
    rebuild(lab, a)
    in_use(lab, a)
    discard(lab, a)
    ageing(lab, a)
