#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Who uses a mount is named, an umount refuses meanwhile, and a mount that drains takes no new disk,
# also when another server or program takes over.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog python3
vcf_setup
vcf_config <<-CONFIG
	[rules]
	passthrough = locks/**
	derived = */disk.info
CONFIG
vcf_mount
mkdir "$MNT/one" "$MNT/two" "$MNT/locks"
echo first >"$MNT/one/disk"
echo second >"$MNT/two/disk"

# A program with the arguments of a guest; it has the disk open until its input ends.
mkfifo "$W/guest"
exec 8<>"$W/guest"
# shellcheck disable=SC2016
(
	exec -a qemu-system-x86_64 bash -c 'exec 5<>"$0"; read -r' "$MNT/one/disk" -name \
		guest=instance-0000002a,debug-threads=on -uuid 5d1a6a2e-7a0c-4a0e-8f0e-0123456789ab <"$W/guest"
) &
guest=$!
users() { vcf_status_get 'len(s["users"])'; }
one_user() { [ "$(users)" = "$1" ]; }
wait_for 20 one_user 1 || fail "no user: $(vcf_status)"
equal "guest" "instance-0000002a 5d1a6a2e-7a0c-4a0e-8f0e-0123456789ab one/disk" \
	"$(vcf_status_get '" ".join([s["users"][0][k] for k in ("guest", "guest_uuid")] + s["users"][0]["files"])')"
equal "pid" "$guest" "$(vcf_status_get 's["users"][0]["pid"]')"
"$VMCRYPTFS" status "$MNT" >"$W/out"
grep -q "STOPPING IT WOULD END the files of 1 guests and 0 other" "$W/out" || fail "$(cat "$W/out")"
grep -q "guest instance-0000002a 5d1a.*one/disk" "$W/out" || fail "$(cat "$W/out")"
ok "status names the guests that would lose their disks"

rc=0
"$VMCRYPTFS" umount "$MNT" 2>"$W/err" || rc=$?
equal "umount" 5 "$rc"
grep -q "guest instance-0000002a" "$W/err" || fail "umount names nobody: $(cat "$W/err")"
is_mounted || fail "unmounted"
ok "umount refuses, and says why"

# Also those that only have it mapped, or stand in it, or in a namespace of their own.
python3 -c '
import mmap, sys, os
f = os.open(sys.argv[1], os.O_RDONLY)
m = mmap.mmap(f, 4, prot=mmap.PROT_READ)
os.close(f)
open(sys.argv[2], "w")
sys.stdin.readline()' "$MNT/two/disk" "$W/mapped" <"$W/guest" &
mapper=$!
(
	cd "$MNT/two"
	exec sleep 1000
) &
sleeper=$!
wait_for 20 test -e "$W/mapped"
wait_for 20 one_user 3 || fail "mapped files, working directories: $(vcf_status)"
kill $mapper $sleeper
wait_for 20 one_user 1 || fail "$(vcf_status)"
in_namespace() { # HOW-MANY-USERS-THEN   sets $other: has a file open in another mount namespace
	# shellcheck disable=SC2016
	unshare --mount --propagation slave bash -c 'exec 7<"$1"; umount -l "$2"; exec sleep 1000' - \
		"$MNT/two/disk" "$MNT" &
	other=$!
	wait_for 20 one_user "$1" || fail "one in another namespace: $(vcf_status)"
}
namespaces() { [ "$(id -u)" = 0 ] && command -v unshare >/dev/null; }
if namespaces; then
	in_namespace 2
	equal "his file" two/disk "$(vcf_status_get '[u for u in s["users"] if not u["guest"]][0]["files"][0]')"
	kill $other
	wait_for 20 one_user 1 || fail "$(vcf_status)"
fi
ok "mapped files, working directories, other namespaces"

rc=0
"$VMCRYPTFS" drain --wait 0 "$MNT" >"$W/out" 2>"$W/err" || rc=$?
equal "drain --wait 0" 5 "$rc"
grep -q "guest instance-0000002a" "$W/out" || fail "drain names nobody: $(cat "$W/out")"
refused() {
	must_fail_with "shutdown" cat "$MNT/two/disk"
	must_fail_with "shutdown" touch "$MNT/two/new"
	[ ! -e "$MNT/two/new" ] || fail "made all the same"
	equal "what is open" first "$(cat "$MNT/one/disk")"
	echo info >"$MNT/two/disk.info"
	equal "derived" info "$(cat "$MNT/two/disk.info")"
	echo lock >"$MNT/locks/lock"
	equal "draining" True "$(vcf_status_get 's["draining"]')"
}
refused
"$VMCRYPTFS" status "$MNT" | grep -q DRAINING || fail "status does not say so"
ok "no new disk is opened or made; what is open goes on"

require_log 'was killed by signal 9'
server=$(vcf_status_get 's["server_pid"]')
kill -KILL "$server"
refused
[ "$(vcf_status_get 's["server_pid"]')" != "$server" ] || fail "the same server"
"$VMCRYPTFS" upgrade "$MNT" >/dev/null || fail "upgrade"
refused
ok "also with the next server, and after an upgrade"

"$VMCRYPTFS" drain --cancel "$MNT" >/dev/null || fail "drain --cancel"
equal "after --cancel" second "$(cat "$MNT/two/disk")"
touch "$MNT/two/new"
ok "drain --cancel"

"$VMCRYPTFS" drain --wait 1h "$MNT" >"$W/out" 2>"$W/err" &
drain=$!
wait_for 20 grep -q "guest instance" "$W/out" || fail "drain: $(cat "$W/out" "$W/err")"
kill -0 $drain || fail "drain did not wait"
echo >&8
wait $guest
wait $drain || fail "drain: $(cat "$W/out" "$W/err")"
grep -q "drained: nobody uses it" "$W/out" || fail "$(cat "$W/out")"
vcf_umount
ok "drain ends with the last guest"

vcf_mount
equal "draining, after a new mount" False "$(vcf_status_get 's["draining"]')"
if namespaces; then # umount(2) alone would not refuse
	in_namespace 1
	must_fail_with "sleep[$other]: two/disk" "$VMCRYPTFS" umount "$MNT"
	is_mounted || fail "unmounted under one in another namespace"
	kill $other
	wait_for 20 one_user 0 || fail "$(vcf_status)"
	ok "umount refuses, and names one in another mount namespace"
fi
exec 7<"$MNT/two/disk"
SECONDS=0
"$VMCRYPTFS" umount --force "$MNT" || fail "umount --force"
[ $SECONDS -lt 40 ] || fail "it took $SECONDS s"
must_fail_with "endpoint" dd bs=4096 count=1 iflag=direct status=none <&7
vcf_wait
exec 7<&-
ok "umount --force ends it under an open file"

vcf_mount -o "mount.log-file=$LOG"
(
	exec -a qemu-system-x86_64 bash -c 'exec 5<>"$0"; read -r' "$MNT/one/disk" -name \
		guest=instance-0000002b <"$W/guest"
) &
wait_for 20 one_user 1 || fail "$(vcf_status)"
require_log "stopped under guest instance-0000002b \(.*\[$!\]\)"
kill -TERM "$VCF_PID"
wait_for 20 grep -q "serving open files" "$LOG" || fail "no word of the open files"
kill -TERM "$VCF_PID" # now
vcf_wait
kill $!
ok "the log names the guests under which a mount was stopped by a signal"
