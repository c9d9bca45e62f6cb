#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The commands: help, --version, check-config, a background mount, status, info, umount.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog cryptsetup
vcf_setup

"$VMCRYPTFS" --version | grep -qE '^vmcryptfs [0-9]+\.[0-9]+' || fail "--version"
"$VMCRYPTFS" help | grep -q 'mount' || fail "help"
"$VMCRYPTFS" check-config "$CONF" || fail "check-config refuses a good configuration"
must_fail "$VMCRYPTFS" nonsense
must_fail "$VMCRYPTFS"
ok "help, --version, unknown commands"

cp "$CONF" "$W/bad.conf"
printf '[mount]\nno-such-key = 1\n' >>"$W/bad.conf"
must_fail "$VMCRYPTFS" check-config "$W/bad.conf"
grep -q "bad.conf:$(wc -l <"$W/bad.conf")" "$W/stderr" || fail "no file and line: $(cat "$W/stderr")"
must_fail "$VMCRYPTFS" mount -o mount.no-such-key=1 "$CONF"
must_fail "$VMCRYPTFS" mount -o format.sector-size=1000 "$CONF"
must_fail "$VMCRYPTFS" mount "$W/nothing.conf"
! is_mounted || fail "mounted all the same"
ok "a wrong configuration is refused with file and line"

for key in backing mountpoint; do
	must_fail "$VMCRYPTFS" mount -o "mount.$key=$W/missing" "$CONF"
	grep -q " $W/missing: No such file" "$W/stderr" || fail "which folder? $(cat "$W/stderr")"
	"$VMCRYPTFS" check-config -o "mount.$key=$W/missing" "$CONF" 2>"$W/stderr" || fail "check-config"
	grep -q "refused on this machine: $W/missing" "$W/stderr" || fail "check-config: $(cat "$W/stderr")"
done
! is_mounted || fail "mounted all the same"
ok "a folder that is missing is named"

"$VMCRYPTFS" mount "$BACK" "$MNT" -o "file.directory=$KEYS" -o "mount.state-directory=$W/state" \
	-o "mount.runtime-directory=$W/run" -o "mount.log-file=$LOG"
is_mounted || fail "the command returned before the mount answered"
echo hello >"$MNT/f"
equal "content" hello "$(cat "$MNT/f")"
pid=$(vcf_status_get 's["server_pid"]')
kill -0 "$pid" || fail "status names no process"
equal "mountpoint" "$MNT" "$(vcf_status_get 's["mountpoint"]')"
equal "images" "f" "$(vcf_status_get '",".join(i["path"] for i in s["images"])')"
[ "$(vcf_status_get 's["images"][0]["bytes_written"]')" -ge 6 ] || fail "bytes_written"
"$VMCRYPTFS" status "$MNT" | grep -q "$MNT" || fail "status for people"
ok "a background mount answers before the command returns"

must_fail "$VMCRYPTFS" mount "$BACK" "$W/run" -o "file.directory=$KEYS" \
	-o "mount.state-directory=$W/state" -o "mount.runtime-directory=$W/run"
ok "a second mount of one backing folder is refused"

for side in "$MNT/f" "$BACK/f"; do
	"$VMCRYPTFS" info "$side" >"$W/info" || fail "info $side"
	grep -qi "$(cryptsetup luksUUID "$BACK/f")" "$W/info" || fail "info: no uuid"
	grep -q "$(key_id_of "$BACK/f")" "$W/info" || fail "info: no key id"
	grep -q "cryptsetup open" "$W/info" || fail "info: no cryptsetup line"
done
ok "info on either side"

"$VMCRYPTFS" umount "$MNT"
! is_mounted || fail "still mounted"
wait_for 10 pid_gone "$pid" || fail "the daemon is still there"
must_fail "$VMCRYPTFS" umount "$MNT"
must_fail "$VMCRYPTFS" status --json "$MNT"
ok "umount"
