# SPDX-License-Identifier: GPL-2.0-or-later
"""novadriver.py: Nova's libvirt driver (Debian's python3-nova), with all but its files cut off.

Real: LibvirtDriver's methods on disks and folders, imagebackend, images, disk.api, configdrive,
imagecache, storage_users, remotefs, privsep (in this process, which is root). Replaced: libvirt
and the guest's XML, the image service, the data base, volumes and network.
"""
import os
import time
import traceback
import types
import warnings
from unittest import mock

warnings.simplefilter("ignore")

# pylint: disable=wrong-import-position,import-error,protected-access
import nova.conf
import nova.privsep
import nova.privsep.fs
import nova.privsep.path
import nova.privsep.utils
from nova import exception
from nova import objects
from nova.compute import power_state
from nova.compute import vm_states
from nova.virt import configdrive
from nova.virt import images
from nova.virt import storage_users
from nova.virt.libvirt import blockinfo
from nova.virt.libvirt import config as vconfig
from nova.virt.libvirt import driver
from nova.virt.libvirt import imagebackend
from nova.virt.libvirt import imagecache
from nova.virt.libvirt import instancejobtracker
from nova.virt.libvirt import utils as libvirt_utils
from nova.virt.libvirt.volume import remotefs
from oslo_concurrency import processutils

from novalab import MARK, MIB, QEMU_UID, equal, need

CONF = nova.conf.CONF
objects.register_all()
DEVICES = {"disk": "vda", "disk.local": "vdb", "disk.swap": "vdc", "disk.config": "vdd",
           "disk.rescue": "vde"}


class Thing(dict):
    """Nova's objects are read as dictionaries and as attributes."""

    __getattr__ = dict.get


class Glance:
    """The image service: files of one folder."""

    def __init__(self, folder):
        self.folder = folder

    def find(self, image_id):
        for name in os.listdir(self.folder):
            if name.rpartition(".")[0] == image_id:
                return os.path.join(self.folder, name)
        raise exception.ImageNotFound(image_id=image_id)

    def get(self, _context, image_id, **_more):
        return {"id": image_id, "name": image_id,
                "disk_format": self.find(image_id).rpartition(".")[2]}

    def download(self, _context, image_id, dest_path=None, trusted_certs=None):
        del trusted_certs
        source = self.find(image_id)
        with open(os.path.join(self.folder, "downloads"), "a", encoding="ascii") as f:
            f.write(image_id + "\n")
        with open(source, "rb") as src, open(dest_path, "wb") as dst:
            while chunk := src.read(65536):
                dst.write(chunk)
            dst.flush()
            os.fsync(dst.fileno())

    def update(self, _context, image_id, metadata, data=None, **_more):
        if data is None:
            return
        with open(os.path.join(self.folder, f"{image_id}.{metadata['disk_format']}"), "wb") as f:
            while chunk := data.read(65536):
                f.write(chunk)

    def announce(self, image_id, disk_format):
        """An image that is to be uploaded: it has a format, and no content yet."""
        open(os.path.join(self.folder, f"{image_id}.{disk_format}"), "wb").close()


class Nova:
    def __init__(self, lab, name, settings):
        self.lab, self.name, self.fmt = lab, name, lab.fmt
        self.root = lab.mnt["a"]
        self.glance = Glance(lab.glance)
        self.configure(settings)
        nova.privsep.sys_admin_pctxt.set_client_mode(False)
        images.IMAGE_API = self.glance
        driver.libvirt = types.SimpleNamespace(libvirtError=OSError, VIR_ERR_NO_DOMAIN=0)
        blockinfo.get_disk_info = lambda *a, **k: {"mapping": self.mapping}
        self.mapping = {}
        self.drv = self.make_driver()

    def configure(self, settings):
        CONF([], project="nova", default_config_files=[], default_config_dirs=[])
        CONF.set_override("instances_path", self.root)
        CONF.set_override("host", "node-" + self.name)
        CONF.set_override("my_ip", "192.0.2.1" if self.name == "a" else "192.0.2.2")
        CONF.set_override("use_cow_images", self.fmt == "qcow2")
        CONF.set_override("images_type", "default", "libvirt")
        CONF.set_override("virt_type", "kvm", "libvirt")
        CONF.set_override("snapshots_directory", self.root + "/snapshots", "libvirt")
        for option, value in settings.items():
            group, _, option = option.rpartition(".")
            CONF.set_override(option, value, group or None)

    def make_driver(self):
        drv = object.__new__(driver.LibvirtDriver)
        drv._disk_cachemode = None
        drv.image_backend = imagebackend.Backend(CONF.use_cow_images)
        drv.image_cache_manager = imagecache.ImageCacheManager()
        drv.job_tracker = instancejobtracker.InstanceJobTracker()
        drv._remotefs = remotefs.RemoteFilesystem()
        drv._image_api = self.glance
        for cut in ("power_off", "unplug_vifs", "_destroy", "_create_guest", "_get_guest_xml",
                    "_create_guest_with_network", "_suspend_guest_for_snapshot",
                    "_resume_guest_after_snapshot", "_cleanup_resize_vtpm", "_undefine_domain",
                    "_finish_migration_vtpm", "_finish_revert_migration_vtpm", "_allocate_mdevs",
                    "quiesce", "unquiesce", "_can_quiesce", "_create_configdrive"):
            setattr(drv, cut, mock.Mock())
        drv._get_vpmems = lambda *a, **k: []
        drv._get_all_assigned_mediated_devices = lambda *a: {}
        drv._get_existing_domain_xml = lambda *a: f"<domain>{MARK}xml</domain>"
        drv._create_snapshot_metadata = lambda _meta, _inst, fmt, _name: {"disk_format": fmt}
        drv._get_instance_disk_info = lambda inst, _bdi: drv._get_instance_disk_info_from_config(
            self.guest_config(inst.uuid), None)
        return drv

    # What the methods get.

    def path(self, uuid, name=""):
        return os.path.join(self.root, uuid, name) if name else os.path.join(self.root, uuid)

    def instance(self, uuid, image_id=None, **more):
        flavor = Thing(root_gb=1, ephemeral_gb=0, swap=0)
        flavor.update(more.pop("flavor", {}))
        meta = mock.Mock()
        meta.properties.get = lambda name, default=None: default
        inst = Thing(uuid=uuid, name="instance-" + uuid[-4:], image_ref=image_id, flavor=flavor,
                     host=CONF.host, system_metadata={"image_base_image_ref": image_id},
                     image_meta=meta, vm_state=vm_states.ACTIVE, os_type="linux", **more)
        inst.get_flavor = lambda: flavor
        return inst

    def guest_config(self, uuid):
        """The domain's disks, as far as they exist."""
        devices = []
        for name, dev in DEVICES.items():
            if os.path.exists(self.path(uuid, name)):
                disk = vconfig.LibvirtConfigGuestDisk()
                disk.source_type, disk.source_path = "file", self.path(uuid, name)
                disk.target_dev = dev
                disk.driver_format = "raw" if name == "disk.config" else self.fmt
                devices.append(disk)
        return types.SimpleNamespace(virt_type="kvm", name=uuid, devices=devices)

    # Operations.

    def start_service(self):
        """What a starting nova-compute, and its periodic tasks, do to the folder."""
        equal("the cache mode of disks", "none", self.drv.disk_cachemode)
        storage_users.register_storage_use(self.root, CONF.host)
        need(CONF.host in storage_users.get_storage_users(self.root), "not in compute_nodes")
        test = self.drv._create_shared_storage_test_file(None)
        need(self.drv._check_shared_storage_test_file(test, None), "the test file is not seen")
        self.drv._cleanup_shared_storage_test_file(test)
        need(not self.drv._check_shared_storage_test_file(test, None), "a removed file is seen")
        self.age_images([])
        os.makedirs(self.root + "/probe")
        need(imagebackend.Flat(path=self.root + "/probe/disk")._can_fallocate(), "no fallocate")
        os.rmdir(self.root + "/probe")
        return self.drv._get_local_gb_info()

    def probe_as(self, uid):
        """The probes as a user who owns the folder and is not root."""
        pid = os.fork()
        if pid == 0:
            try:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
                need(nova.privsep.utils.supports_direct_io(self.root), "no O_DIRECT")
                test = self.shared_file()
                need(self.sees_shared_file(test), "the test file is not seen")
                self.remove_shared_file(test)
                need(os.access(self.root, os.W_OK), "no access")
                os._exit(0)
            except BaseException:  # whatever it is: said, and the end of this process
                traceback.print_exc()
            os._exit(1)
        equal("the probes' end", 0, os.waitpid(pid, 0)[1])

    def shared_file(self):
        return self.drv._create_shared_storage_test_file(None)

    def sees_shared_file(self, name):
        return self.drv._check_shared_storage_test_file(name, None)

    def remove_shared_file(self, name):
        self.drv._cleanup_shared_storage_test_file(name)

    def spawn(self, uuid, image_id, config=True, **more):
        """_create_image with a root disk and what the flavor says, config drive, console."""
        inst = self.instance(uuid, image_id, **more)
        self.drv._create_image(None, inst, self.mapping_of(inst))
        if config:
            self.config_drive(uuid)
        self.console(uuid)
        return sorted(os.listdir(self.path(uuid)))

    def mapping_of(self, inst):
        names = ["disk"] + ["disk.local"] * (inst.flavor.ephemeral_gb > 0) + \
            ["disk.swap"] * (inst.flavor.swap > 0)
        return {n: {"dev": DEVICES[n], "bus": "virtio", "type": "disk"} for n in names}

    def config_drive(self, uuid, name="disk.config"):
        drive = configdrive.ConfigDriveBuilder()
        drive.mdfiles = [("openstack/latest/meta_data.json", f'{{"{MARK}": "{uuid}"}}'),
                         ("openstack/latest/user_data", MARK * 50)]
        target = self.drv.image_backend.by_name(Thing(uuid=uuid), name, "raw")
        need(not target.exists(), "there is a config drive already")
        drive.make_drive(self.path(uuid, name))

    def vfat_config_drive(self, uuid):
        CONF.set_override("config_drive_format", "vfat")
        os.unlink(self.path(uuid, "disk.config"))
        try:
            return self.make_vfat(uuid)
        finally:
            CONF.clear_override("config_drive_format")

    def make_vfat(self, uuid):
        with open("/proc/filesystems", encoding="ascii") as f:
            if "vfat" in f.read():
                self.config_drive(uuid)
                return "vfat over a loop mount"
        # The same steps; the kernel mounts ext4 instead.
        nova.privsep.fs.unprivileged_mkfs("vfat", self.padded(uuid), label="config-2")
        processutils.execute("fsck.vfat", "-n", self.path(uuid, "disk.vfat"))
        with mock.patch.object(nova.privsep.fs, "unprivileged_mkfs", lambda _fs, path, label:
                               processutils.execute("mkfs.ext4", "-q", "-F", "-L", label, path)), \
                mock.patch.object(nova.privsep.fs, "mount", lambda _t, dev, where, _o:
                                  processutils.execute("mount", "-o", "loop", dev, where)):
            self.config_drive(uuid)
        return "mkfs.vfat and fsck.vfat; ext4 over a loop mount (the kernel has no vfat)"

    def padded(self, uuid):
        with open(self.path(uuid, "disk.vfat"), "wb") as f:
            f.truncate(configdrive.CONFIGDRIVESIZE_BYTES)
        return self.path(uuid, "disk.vfat")

    def console(self, uuid):
        self.drv._get_console_log_path = lambda inst: self.path(inst.uuid, "console.log")
        self.drv._ensure_console_log_for_instance(Thing(uuid=uuid))
        with open(self.path(uuid, "console.log"), "a", encoding="ascii") as f:
            f.write(f"{MARK} boots\n" * 100)

    def last_of_console(self, uuid):
        return nova.privsep.path.last_bytes(open(self.path(uuid, "console.log"), "rb"), 50)

    def change_disk_info(self, uuid):
        """disk.info is written beside and renamed over."""
        open(self.path(uuid, "disk.more"), "wb").close()
        other = imagebackend.Flat(path=self.path(uuid, "disk.more"))
        with open(self.path(uuid, "disk.info"), encoding="ascii") as f:
            lines = f.read()
        os.unlink(self.path(uuid, "disk.more"))
        need(other.path in lines, lines)

    def preallocated(self, uuid, image_id):
        """A disk with preallocate_images = space: fallocate keeps the size."""
        CONF.set_override("preallocate_images", "space")
        inst = self.instance(uuid, image_id)
        inst.flavor.root_gb = 0
        os.makedirs(self.path(uuid))
        disk = self.drv.image_backend.by_name(inst, "disk", "raw")
        disk.cache(fetch_func=libvirt_utils.fetch_image, context=None,
                   filename=imagecache.get_cache_fname(image_id), size=64 * MIB,
                   image_id=image_id, trusted_certs=None)
        CONF.clear_override("preallocate_images")
        equal("driver_io", "native", disk.driver_io)

    def disk_info(self, uuid):
        return self.drv._get_instance_disk_info_from_config(self.guest_config(uuid), None)

    def image_info(self, path):
        info = images.qemu_img_info(path)
        return {"format": info.file_format, "virtual": info.virtual_size,
                "actual": info.disk_size, "backing": info.backing_file}

    def resize(self, uuid, size, fmt):
        from nova.virt.disk import api  # pylint: disable=import-outside-toplevel
        from nova.virt.image import model  # pylint: disable=import-outside-toplevel
        api.extend(model.LocalFileImage(self.path(uuid, "disk"), fmt), size)

    def age_images(self, instances, remove=True):
        """manage_image_cache; instances: (uuid, image id)."""
        manager = self.drv.image_cache_manager
        manager.remove_unused_base_images = remove
        everyone = [self.instance(*i) for i in instances]
        with mock.patch("nova.objects.BlockDeviceMappingList.bdms_by_instance_uuid",
                        return_value={}):
            self.drv.manage_image_cache(None, everyone)
        return manager.get_disk_usage()

    def kernel(self, uuid, kernel_id, ramdisk_id):
        inst = self.instance(uuid, None, kernel_id=kernel_id, ramdisk_id=ramdisk_id)
        self.drv._fetch_instance_kernel_ramdisk(None, inst)

    def new_disk(self, uuid):
        """A swap disk in a new folder."""
        os.makedirs(self.path(uuid))
        self.drv._create_swap(self.path(uuid, "disk"), 16)

    def rescue(self, uuid, image_id):
        self.mapping = {n: {"dev": DEVICES[n]} for n in ("disk", "disk.rescue")}
        inst = self.instance(uuid, image_id)
        meta = types.SimpleNamespace(id=image_id, obj_attr_is_set=lambda _n: True,
                                     properties=types.SimpleNamespace(get=lambda *a: None))
        with mock.patch.object(driver.hardware, "check_hw_rescue_props", return_value=False):
            self.drv.rescue(None, inst, None, meta, "secret", None)
        self.config_drive(uuid, "disk.config.rescue")

    def unrescue(self, uuid):
        self.drv.unrescue(None, self.instance(uuid))

    def snapshot(self, uuid, image_id, guest=None):
        """Cold without a guest, else live; `guest` does what libvirt would (LiveDisk)."""
        domain = mock.Mock()
        domain.get_config.return_value = self.guest_config(uuid)
        domain.get_power_state.return_value = \
            power_state.RUNNING if guest else power_state.SHUTDOWN
        domain.has_persistent_configuration.return_value = False
        domain.get_block_device.return_value = guest
        self.drv._host = mock.Mock()
        self.drv._host.get_guest.return_value = domain
        self.drv._host.has_min_version.return_value = bool(guest)
        self.glance.announce(image_id, self.fmt)
        self.drv.snapshot(None, self.instance(uuid), image_id, mock.Mock())

    def live_snapshot(self, uuid, image_id):
        self.snapshot(uuid, image_id, LiveDisk(self.guest, "disk", QEMU_UID))

    def unshelve(self, uuid, image_id, base_id):
        inst = self.instance(uuid, image_id, flavor={"root_gb": 0})
        inst["vm_state"] = vm_states.SHELVED_OFFLOADED
        inst["system_metadata"] = {"image_base_image_ref": base_id}
        self.drv._create_image(None, inst, self.mapping_of(inst))

    def delete(self, uuid):
        begin = time.monotonic()
        need(self.drv.delete_instance_files(Thing(uuid=uuid)), "Nova says that files are left")
        need(not os.path.exists(self.path(uuid)), "the folder is there")
        need(not os.path.exists(self.path(uuid) + "_del"), "the _del folder is there")
        return time.monotonic() - begin

    def on_disk(self, uuid):
        return self.drv.instance_on_disk(Thing(uuid=uuid))

    # Moves.

    def migrate(self, uuid, image_id, dest, **more):
        inst = self.instance(uuid, image_id, **more)
        return self.drv.migrate_disk_and_power_off(None, inst, dest, inst.flavor, None)

    def finish_migration(self, uuid, image_id, disk_info, **more):
        inst = self.instance(uuid, image_id, **more)
        self.mapping = self.mapping_of(inst)
        self.drv.finish_migration(None, Thing(source_compute="localhost"), inst, disk_info, None,
                                  None, True, {}, power_on=False)

    def confirm(self, uuid):
        self.drv._cleanup_resize(None, self.instance(uuid), None)

    def revert(self, uuid):
        self.drv.finish_revert_migration(None, self.instance(uuid), None, None, None, False)

    def prepare_block_migration(self, uuid, image_id, disk_info):
        os.makedirs(self.path(uuid))
        self.drv._create_images_and_backing(None, self.instance(uuid, image_id), self.path(uuid),
                                            disk_info)

    # Things that a node does beside.

    def exists(self, path):
        return os.path.exists(path)

    def read(self, path, length, offset=0):
        with open(path, "rb") as f:
            f.seek(offset)
            return f.read(length)

    def content_ok(self, path, image_id, fmt=None):
        self.lab.same_files(path, image_id, fmt)

    def copy_out(self, path, offset, length):
        """Part of a disk, as its guest sees it."""
        with open(self.lab.content(path), "rb") as f:
            f.seek(offset)
            return f.read(length)

    def use_transport(self, transport):
        CONF.set_override("remote_filesystem_transport", transport, "libvirt")
        self.drv._remotefs = remotefs.RemoteFilesystem()

    def guest_start(self, disks, **more):
        self.guest = self.lab.guest(disks, **more)
        return self.guest.name

    def machine_start(self, disks, **more):
        self.guest = self.lab.machine(disks, **more)
        return self.guest.name

    def guest_do(self, method, *args, **more):
        return getattr(self.guest, method)(*args, **more)


class LiveDisk:
    """What libvirt and QEMU do for a live snapshot: the QEMU of a running guest mirrors into a
    file that Nova made and libvirt gave to QEMU's user."""

    def __init__(self, guest, disk, uid):
        self.guest, self.disk, self.uid = guest, disk, uid
        self.mirroring = False

    def abort_job(self):
        if self.mirroring:
            self.guest.end_mirror()
            self.guest.qmp("blockdev-del", **{"node-name": "delta"})
            self.mirroring = False

    def rebase(self, target, **_more):
        os.chown(target, self.uid, self.uid)
        self.guest.qmp("blockdev-add", **{
            "driver": "qcow2", "node-name": "delta", "backing": None,
            "file": {"driver": "file", "filename": target}})
        self.guest.mirror(self.disk, "delta", "top")
        self.mirroring = True

    def is_job_complete(self):
        return True
