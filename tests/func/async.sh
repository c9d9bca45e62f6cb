#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Direct transfers at queue depth are done asynchronously, and nobody sees a difference but time:
# not where the server dies in between, the size changes, the disk is full or does things by halves.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
: >"$W/probe"
need "O_DIRECT in $W" py direct_read "$W/probe" 0 4096
[ "$(stat -f -c %T "$W")" != tmpfs ] || skip "tmpfs does no asynchronous transfers"

queue() { timeout 60 "$VCF_BUILD/tests/func/queue" "$@"; }
asynchronous() { vcf_status_get 's["asynchronous"]'; }
server() { vcf_status_get 's["server_pid"]'; }
new_server() { # OLD
	local now

	now=$(server 2>/dev/null) && [ -n "$now" ] && [ "$now" != "$1" ]
}

for size in 4096 512; do
	vcf_mount -o "format.sector-size=$size"
	queue -k 2 -t "$MNT/f$size"
	[ "$(asynchronous)" -gt 100 ] || fail "only $(asynchronous) asynchronous transfers"
	before=$(asynchronous)
	queue -k 1 -q 1 "$MNT/alone$size"
	[ $(($(asynchronous) - before)) -lt 100 ] || fail "asynchronous ones of a queue of 1"
	ok "S=$size: every byte as it was written, $before of them asynchronous"
	vcf_umount
done

vcf_mount -o mount.asynchronous=no
queue -k 2 -t "$MNT/off"
equal "asynchronous transfers with asynchronous = no" 0 "$(asynchronous)"
vcf_umount
ok "asynchronous = no: the same bytes, by workers"

vcf_mount
expect_log 'err: the server \(pid .*\) was killed by signal 9 with .* takes over'
queue -k 12 -t "$MNT/killed" >"$W/out" 2>&1 &
load=$!
for ((i = 0; i < 12; i++)); do
	sleep 0.2
	old=$(server)
	kill -KILL "$old"
	wait_for 20 new_server "$old" || fail "no new server"
done
wait $load || fail "a program noticed: $(cat "$W/out")"
[ "$(vcf_status_get 's["replayed"]')" -gt 0 ] || fail "no request was under way at any death"
ok "12 servers die: $(cat "$W/out"), $(vcf_status_get 's["replayed"]') requests executed again"
if [ "$(id -u)" = 0 ] && "$VCF_BUILD/tests/func/holdmm" $$ 1 >/dev/null 2>&1; then
	kill_held() { # MS: the server dies while somebody has its address space for so long
		old=$(server)
		: >"$W/holds"
		"$VCF_BUILD/tests/func/holdmm" "$old" "$1" >"$W/holds" &
		holder=$!
		wait_for 5 test -s "$W/holds"
		sleep 0.1
		kill -KILL "$old"
		wait_for 20 new_server "$old" || fail "no new server"
	}
	kill_held 5000
	kill -0 $holder 2>/dev/null || fail "a successor waits although no transfer was under way"
	ok "whoever reads a dead server's memory stops nobody where nothing was under way"
	wait $holder || fail "holdmm failed"
	# The load is between two transfers at times, and then nobody has to wait.
	for ((i = 0; i < 5; i++)); do
		queue -k 4 -t "$MNT/held" >"$W/out" 2>&1 &
		load=$!
		sleep 0.5
		kill_held 700
		wait $holder || fail "holdmm failed"
		wait $load || fail "a program noticed: $(cat "$W/out")"
		vcf_status_get 's["stall_ms"]["max"]' >"$W/stall"
		! awk '{ exit !($1 > 400) }' "$W/stall" || break
	done
	awk '{ exit !($1 > 400) }' "$W/stall" || fail "a successor after $(cat "$W/stall") ms"
	ok "a successor waits while the dead server's transfers could go on ($(cat "$W/stall") ms)"
fi
vcf_umount

saved=$VMCRYPTFS VMCRYPTFS=$VCF_BUILD/tests/func/faultyaio
sed -i "s|^helper = file$|helper = $VCF_BUILD/crypto/keys/vmcryptfs-key-file|" "$CONF"
vcf_mount
queue -k 2 "$MNT/halves"
[ "$(asynchronous)" -gt 100 ] || fail "only $(asynchronous) asynchronous transfers"
vcf_umount
ok "what was done by halves is done again"
expect_log 'halves2: (read|write) of .*: (No space left|Input/output error)'
export VCF_FAULTY=lasting
vcf_mount
unset VCF_FAULTY
queue -k 2 -e 5 -e 28 "$MNT/halves2"
vcf_umount
ok "what fails for good is told to whom it belongs"
VMCRYPTFS=$saved

need_root
mkdir "$W/small"
truncate -s 40M "$W/disk"
mkfs.ext4 -q -m 0 "$W/disk" 2>/dev/null && mount -o loop "$W/disk" "$W/small" 2>/dev/null ||
	skip "needs to mount an ext4 of its own for a full disk"
at_exit "umount -l $W/small"
mkdir "$W/small/back"
sed -i "s|^backing = .*|backing = $W/small/back|" "$CONF"
vcf_mount
expect_log 'full: write of .*: No space'
queue -k 3 -s $((128 << 20)) -e 28 "$MNT/full"
vcf_umount
ok "a full disk is told to the writers that it hits, and to nobody else"
