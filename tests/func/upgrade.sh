#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Another program takes over a mount under load, and nobody sees more than a pause; one that cannot
# is refused before anything happens, or gives way to the old one.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
pattern upgrade 2097152 >"$W/data"
program() { # NAME FILE   a program with its helper beside it
	mkdir "$W/$1"
	cp "$2" "$W/$1/vmcryptfs"
	cp "$VCF_BUILD/crypto/keys/vmcryptfs-key-file" "$W/$1/"
}
program new "$VMCRYPTFS"
program otherstate "$VCF_BUILD/tests/func/otherstate"
program cannotserve "$VCF_BUILD/tests/func/cannotserve"
program cannotresume "$VCF_BUILD/tests/func/cannotresume"

load() { # NAME   copies and compares until told to stop; any error ends it with 1
	local i=0

	while [ ! -e "$W/stop" ]; do
		cp "$W/data" "$MNT/$1" && sync -d "$MNT/$1" && cmp "$W/data" "$MNT/$1" || return 1
		mkdir "$MNT/$1.d" && mv "$MNT/$1" "$MNT/$1.d/x" && rm -r "$MNT/$1.d" || return 1
		i=$((i + 1))
	done
	[ $i -gt 0 ]
}
figures() { vcf_status_get '"%d %d %d" % (s["generation"], s["upgrades"], s["deaths"])'; }
keeper() { vcf_status_get 's["keeper_pid"]'; }
exe_is() { [ "$(readlink "/proc/$(keeper)/exe")" = "$1" ]; }

vcf_mount
echo content >"$MNT/f"
exec 8<>"$MNT/f" 9<>"$MNT/unlinked"
echo "no name" >&9
rm "$MNT/unlinked"
load a &
load1=$!
load b &
load2=$!
sleep 0.5

"$W/new/vmcryptfs" upgrade "$MNT" >"$W/out"
grep -q "serves, generation 2" "$W/out" || fail "said: $(cat "$W/out")"
equal "generation, upgrades, deaths" "2 1 0" "$(figures)"
exe_is "$W/new/vmcryptfs" || fail "the new program does not run"
equal "keeper" "$VCF_PID" "$(keeper)"
equal "content" "no name" "$(cat "/proc/$$/fd/9")"
ok "a new program takes over under load"

must_fail_with "not a vmcryptfs that can" "$VMCRYPTFS" upgrade --binary /bin/false "$MNT"
must_fail_with "not a vmcryptfs that can" "$VMCRYPTFS" upgrade --binary /bin/true "$MNT"
must_fail_with "cannot be executed" "$VMCRYPTFS" upgrade --binary "$W/data" "$MNT"
must_fail_with "its state in another form" "$VMCRYPTFS" upgrade --binary "$W/otherstate/vmcryptfs" "$MNT"
chmod o+w "$W/otherstate/vmcryptfs"
must_fail_with "writable by nobody else" "$VMCRYPTFS" upgrade --binary "$W/otherstate/vmcryptfs" "$MNT"
cp "$W/new/vmcryptfs" "$MNT/vmcryptfs"
must_fail_with "must not lie in a mount" "$VMCRYPTFS" upgrade --binary "$MNT/vmcryptfs" "$MNT"
rm "$MNT/vmcryptfs"
cp "$CONF" "$W/conf"
sed -i "s|^mountpoint = .*|mountpoint = $W/elsewhere|" "$CONF"
mkdir "$W/elsewhere"
must_fail_with "names other folders" "$VMCRYPTFS" upgrade "$MNT"
cp "$W/conf" "$CONF"
printf '[rules]\npassthrough = **\n' >>"$CONF"
must_fail_with "has changed since the daemon read it" "$VMCRYPTFS" upgrade "$MNT"
cp "$W/conf" "$CONF"
equal "generation, upgrades, deaths" "2 1 0" "$(figures)"
ok "what cannot take over is refused, and nothing has changed"

expect_log 'err: .*: this program does not serve: back to the one before'
must_fail_with "the old one goes on" "$VMCRYPTFS" upgrade --binary "$W/cannotserve/vmcryptfs" "$MNT"
equal "keeper" "$VCF_PID" "$(keeper)"
exe_is "$W/new/vmcryptfs" || fail "it is not the program before that goes on"
equal "upgrades" 1 "$(vcf_status_get 's["upgrades"]')"
ok "a new program whose server crashes gives way to the one before"

expect_log "err: .*: the new program's keeper ended: the old program goes on"
must_fail_with "the old one goes on" "$VMCRYPTFS" upgrade --binary "$W/cannotresume/vmcryptfs" "$MNT"
equal "exit status" 1 "$(vcf_rc)"
VCF_PID=$(keeper)
exe_is "$W/new/vmcryptfs" || fail "it is not the program before that goes on"
ok "where the new program's keeper ends the old one goes on"

expect_log 'err: the server .* was killed by signal 9 .* takes over'
generation=$(vcf_status_get 's["generation"]')
kill -KILL "$(vcf_status_get 's["server_pid"]')"
served() { [ "$(vcf_status_get 's["generation"]' 2>/dev/null)" = $((generation + 1)) ]; }
wait_for 10 served || fail "the server was not replaced"
"$VMCRYPTFS" upgrade "$MNT" >"$W/out"
exe_is "$VMCRYPTFS" || fail "the program does not run"
equal "keeper" "$VCF_PID" "$(keeper)"
sleep 0.5
touch "$W/stop"
wait $load1 || fail "an error came through"
wait $load2 || fail "an error came through"
equal "content" content "$(cat <&8)"
equal "content" "no name" "$(cat "/proc/$$/fd/9")"
exec 8>&- 9>&-
ok "it supervises, is upgraded again, and no error came through"

"$VMCRYPTFS" umount "$MNT"
! is_mounted || fail "still mounted"
wait_for 10 pid_gone "$VCF_PID" || fail "the daemon did not end"
[ -z "$(ls "$W/run")" ] || fail "left behind: $(ls "$W/run")"
ok "the end"

vcf_mount -o mount.seccomp=off # that server sends its keeper a signal
exec 8<>"$MNT/f"
touch "$W/cannotserve/vmcryptfs.stop"
must_fail_with "the old one goes on" "$VMCRYPTFS" upgrade --binary "$W/cannotserve/vmcryptfs" "$MNT"
! is_mounted || fail "still mounted"
equal "content" content "$(cat <&8)"
kill -TERM "$VCF_PID" # the second one: at once
wait_for 5 pid_gone "$VCF_PID" || fail "the stop was forgotten"
exec 8<&-
ok "a stop while a new program is tried is the old one's as well"

vcf_mount
for _ in $(seq 10); do
	wait_for 10 kill -KILL "$(vcf_status_get 's["server_pid"]')"
	"$VMCRYPTFS" upgrade "$MNT" >/dev/null || fail "no upgrade, for a server had just died"
done
"$VMCRYPTFS" umount "$MNT"
ok "servers die as an upgrade is asked for"

# In the background, with the quick form's names.
unset VMCRYPTFS_RUNTIME_DIRECTORY
(cd "$W" && "$VMCRYPTFS" mount -o mount.state-directory="$W/state" -o mount.runtime-directory="$W/run" \
	-o mount.log-file="$LOG" -o file.directory="$KEYS" back mnt)
equal "content" content "$(cat "$MNT/f")"
"$W/new/vmcryptfs" upgrade -r "$W/run" "$MNT"
equal "content" content "$(cat "$MNT/f")"
"$VMCRYPTFS" umount -r "$W/run" "$MNT"
ok "in the background"
