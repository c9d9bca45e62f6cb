#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# No key, secret or plaintext in the backing folder, the state, the log, the command line, the
# environment, a core file, or a dump that a debugger takes.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
need_prog cryptsetup xxd gdb
vcf_setup
ulimit -c unlimited
mkdir "$W/cwd" "$W/needles" "$W/public"
VCF_WRAP=(env -C "$W/cwd")
vcf_mount -o mount.log-level=dbg

marker="PLAINTEXT-$(head -c 12 /dev/urandom | xxd -p)-MARKER"
yes "$marker" | head -c 4M >"$MNT/disk" || true
sync -f "$MNT/disk"
exec 9<>"$MNT/disk"
[ "$(head -c 4M <&9 | grep -cF "$marker")" -gt 1000 ] || fail "reading back"

printf %s "$marker" >"$W/needles/marker"
for f in "$KEYS"/*; do
	n=$W/needles/${f##*/}
	cp "$f" "$n.hex"
	tr a-f A-F <"$f" >"$n.HEX"
	xxd -r -p "$f" "$n.raw"
	base64 -w0 "$n.raw" >"$n.base64"
done
id=$(key_id_of "$BACK/disk")
cryptsetup luksDump -q --dump-volume-key --key-file "$KEYS/$id" \
	--volume-key-file "$W/needles/volume.raw" "$BACK/disk" >/dev/null
equal "volume key length" 64 "$(stat -c %s "$W/needles/volume.raw")"
head -c 32 "$W/needles/volume.raw" >"$W/needles/half1.raw"
tail -c 32 "$W/needles/volume.raw" >"$W/needles/half2.raw"
xxd -p -c 64 "$W/needles/volume.raw" >"$W/needles/volume.hex"

py absent "$W/needles" "$BACK" "$W/state" "$W/run" "$LOG"
ok "backing folder, state, runtime folder, log"

server=$(vcf_status_get 's["server_pid"]')
for pid in "$VCF_PID" $(pgrep -P "$VCF_PID") $(pgrep -P "$server"); do
	cat "/proc/$pid/cmdline" "/proc/$pid/environ" >"$W/public/$pid"
done
"$VMCRYPTFS" status --json "$MNT" >"$W/public/status"
"$VMCRYPTFS" info "$MNT/disk" >"$W/public/info" 2>&1 || true
py absent "$W/needles" "$W/public"
ok "command line, environment, status, info"

replaced() { [ "$(vcf_status_get 's["generation"]')" = 2 ]; }

# A debugger's dump of the living process. It stops the daemon, so nothing may touch the mount.
exec 9>&-
mkdir "$W/dump"
if gdb -q -batch -p "$server" -ex "generate-core-file $W/dump/core" >"$W/gdb.out" 2>&1 &&
	[ -s "$W/dump/core" ]; then
	py absent "$W/needles" "$W/dump"
	ok "a debugger's dump ($(stat -c %s "$W/dump/core") bytes)"
else
	echo "(no dump could be taken: $(tail -n 1 "$W/gdb.out"))"
fi
rm -rf "$W/dump"

# The kernel's own core file: must not be written at all.
equal "core limit" 1 "$(awk '/core file/ { print $5 }' "/proc/$server/limits")"
kill -ABRT "$server"
wait_for 10 replaced || fail "no other server after SIGABRT"
expect_log 'was killed by signal 6'
[ -z "$(find "$W/cwd" "$W/back" -name 'core*')" ] || fail "a core file was written"
py absent "$W/needles" "$W/cwd" "$LOG"
ok "no core file after SIGABRT"
