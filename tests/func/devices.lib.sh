# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Block devices for tests: loop devices over files in $W.

need_root
need "loop devices" losetup -f

new_device() { # SIZE VARIABLE   zeros, or as $W/VARIABLE.img is
	local dev

	[ -e "$W/$2.img" ] || truncate -s "$1" "$W/$2.img"
	dev=$(losetup --show -f "$W/$2.img" 2>"$W/losetup.err") ||
		skip "needs a free loop device: $(cat "$W/losetup.err")"
	at_exit "losetup -d $dev"
	printf -v "$2" %s "$dev"
}
