#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The Debian package: lintian has nothing to say; it installs on a fresh Debian 12 (debootstrap), mounts
# there, and is purged without a trace. Then the same root is booted with its own systemd
# (systemd-nspawn): start, reload, restart, stop and a newer package under fio with verification; older
# and newer packages, restart, a killed server and a refused stop under a QEMU guest, which runs in that
# root as well; the keeper's death; the order at boot and at shutdown (package-guest has these).
# usage: package.sh [FOLDER]      FOLDER has two versions of the package already (contrib/build-deb -v)
# Needs root, the network as apt has it, contrib/install-packages build test package. Some minutes; the
# fresh root is kept in build-guest/.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_root
need_prog debootstrap dpkg-buildpackage lintian systemd-nspawn systemd-analyze unshare nsenter
[ -c /dev/fuse ] || skip "needs /dev/fuse"
need "namespaces" unshare --mount --pid --fork true

here=$VCF_SRC/tests/interop
need "a kernel for guests" "$here/guest-prep"
cache=${VCF_GUEST_DIR:-$VCF_SRC/build-guest}
W=$(mktemp -d "${VCF_TMPDIR:-/var/tmp}/vcf-$NAME.XXXXXX")
root=$W/root
nspawn=''

# shellcheck disable=SC2317  # by the trap
sweep() {
	local rc=$?

	trap - EXIT
	if [ -n "$nspawn" ] && kill -0 "$nspawn" 2>/dev/null; then
		[ $rc = 0 ] || inside journalctl --no-pager -n 30 >&2 || true
		kill -TERM "$nspawn" 2>/dev/null || true # it powers off
		# Its first process, with which all end; nspawn, killed, would leave them behind.
		wait_for 30 pid_gone "$nspawn" || pkill -KILL -P "$nspawn" || true
		wait "$nspawn" 2>/dev/null || true
	fi
	chattr -i "$root/srv/disks" 2>/dev/null || true # guarded
	[ "${VCF_KEEP:-}" = 1 ] || rm -rf --one-file-system "$W"
	exit $rc
}
trap sweep EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

packages() { # sets $old and $new
	local d=${1:-}

	if [ -z "$d" ]; then
		d=$W/packages
		"$VCF_SRC/contrib/build-deb" "$d" >"$W/words" 2>&1 || fail "$(cat "$W/words")"
		! grep -E '^[EW]: ' "$W/words" || fail "lintian has something to say"
		ok "package built; lintian has no error and no warning"
		"$VCF_SRC/contrib/build-deb" -v 99.0.0-1 "$d" >"$W/words" 2>&1 || fail "$(cat "$W/words")"
	fi
	new=$(compgen -G "$d/vmcryptfs_99*.deb") || fail "no newer package in $d"
	old=$(find "$d" -name 'vmcryptfs_*.deb' ! -name 'vmcryptfs_99*' | head -n 1)
	[ -s "$old" ] || fail "no package in $d"
}

# A fresh Debian 12 with its systemd, and what the test itself needs there.
fresh_root() {
	local tar=$cache/bookworm.tar mirror

	mkdir -p "$cache" "$root"
	if [ ! -s "$tar" ]; then
		# shellcheck disable=SC2016  # apt's
		mirror=$(apt-get indextargets --format '$(REPO_URI)' | sed -n 1p)
		debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,fio,procps \
			bookworm "$W/fresh" "${mirror:-http://deb.debian.org/debian}" >"$W/words" 2>&1 ||
			skip "no fresh root: debootstrap: $(tail -n 1 "$W/words")"
		tar -C "$W/fresh" -cf "$tar.$$" .
		mv "$tar.$$" "$tar"
		rm -rf --one-file-system "$W/fresh"
	fi
	tar -C "$root" -xf "$tar"
	cp -L /etc/resolv.conf "$root/etc/resolv.conf"
	cp /etc/apt/apt.conf.d/*proxy* "$root/etc/apt/apt.conf.d/" 2>/dev/null || true
	[ -c "$root/dev/fuse" ] || mknod -m 666 "$root/dev/fuse" c 10 229
	cp "$old" "$new" "$here/package-guest" "$root/root/"
	mkdir -p "$root/root/tests/interop" "$root/root/build-guest"
	cp "$here"/guest{,-prep,-init} "$here/diskpat.c" "$root/root/tests/interop/"
	cp "$cache"/{vmlinuz,initrd.gz,stamp} "$root/root/build-guest/"
}

in_root() { # COMMAND...   without systemd; what it mounts and starts ends with it
	unshare --mount --propagation slave --pid --fork --kill-child --root "$root" \
		--mount-proc env PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
		LC_ALL=C.UTF-8 "$@"
}

step() { # NAME   of package-guest, in a root that does not run
	in_root bash /root/package-guest "$@" || fail "$*"
	ok "$*"
}

inside() { nsenter -t "$(pgrep -P "$nspawn")" -a "$@"; }

running_step() { # NAME   in the one that does
	inside bash /root/package-guest "$@" || fail "$*"
	ok "$*"
}

is_up() { inside systemctl is-system-running --wait; }

boot() {
	systemd-nspawn -q -D "$root" -b --register=no --keep-unit --console=pipe --bind=/dev/fuse \
		--capability=all --system-call-filter=memfd_secret </dev/null >"$W/console" 2>&1 &
	nspawn=$!
	wait_for 90 is_up || {
		kill -0 "$nspawn" 2>/dev/null || skip "systemd-nspawn does not run here: $(tail -n 2 "$W/console")"
		fail "systemd does not come up: $(tail -n 20 "$W/console")"
	}
}

power_off() {
	inside systemctl poweroff || true
	wait_for 90 pid_gone "$nspawn" || fail "no power off in 90 s"
	nspawn=''
}

packages "${1:-}"
fresh_root
step depends "/root/${old##*/}"
step installed "/root/${old##*/}"
step analyze
step mounts
step refuses-removal
step purged

step again "/root/${old##*/}"
step qemu
boot
running_step service
running_step verbs
running_step newer "/root/${new##*/}"
running_step guest "/root/${old##*/}" "/root/${new##*/}"
running_step late
running_step keeper
running_step enable
power_off
boot
running_step booted
running_step leave
power_off
