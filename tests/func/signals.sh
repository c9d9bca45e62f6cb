#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# SIGTERM, SIGINT and umount end the daemon cleanly, also under load; what was synced is there.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
pattern load 4194304 >"$W/data"

load() { # writes until the mount goes away; inside it, so as not to write under it then
	local i=0

	cd "$MNT"
	while [ ! -e "$W/stop" ] && cp "$W/data" "load.$1" 2>/dev/null && sync -d "load.$1" 2>/dev/null; do
		i=$((i + 1))
	done
	[ $i -gt 0 ]
}

for signal in TERM INT; do
	vcf_mount
	cp "$W/data" "$MNT/synced"
	sync -f "$MNT/synced"
	load 1 &
	load1=$!
	load 2 &
	load2=$!
	sleep 2
	kill -$signal "$VCF_PID"
	equal "exit status after SIG$signal" 0 "$(vcf_rc)"
	! is_mounted || fail "still mounted"
	wait $load1 || fail "the load never got anything done"
	wait $load2 || fail "the load never got anything done"
	vcf_mount
	same "$W/data" "$MNT/synced"
	vcf_umount
	ok "SIG$signal under load"
done

vcf_mount
load 1 &
load1=$!
sleep 1
must_fail_with "busy" "$VMCRYPTFS" umount "$MNT"
umount -l "$MNT"
touch "$W/stop"
wait $load1 || fail "the load never got anything done"
equal "exit status" 0 "$(vcf_rc)"
ok "umount says busy under load; a lazy one ends with the last user"

vcf_mount
umount "$MNT" 2>/dev/null || fusermount3 -u "$MNT"
equal "exit status after plain umount" 0 "$(vcf_rc)"
ok "plain umount"
