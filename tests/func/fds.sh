#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A key helper sees descriptors 0, 1 and 2 only, and a bare environment.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_faulty_helper
export VCF_TEST_LEAK="must not reach the helper"
exec 7<"$CONF"
vcf_mount
for i in 1 2 3; do
	echo x >"$MNT/f$i"
done
exec 9<>"$MNT/f1"
cat "$MNT/f2" >/dev/null

[ -s "$HELPER/fds" ] || fail "the helper did not start"
while read -r line; do
	for entry in $line; do
		case $entry in
		0=* | 1=* | 2=*) ;;
		3=/proc/*) ;; # the listing's own
		*) fail "the helper sees $entry" ;;
		esac
	done
done <"$HELPER/fds"
ok "descriptors 0, 1, 2"

for name in $(cat "$HELPER/environ"); do
	case $name in
	PATH | LANG | CREDENTIALS_DIRECTORY | LC_CTYPE) ;; # LC_CTYPE is set by python itself
	*) fail "the helper sees \$$name" ;;
	esac
done
ok "environment"

pid=$(tail -n 1 "$HELPER/pids")
if kill -0 "$pid" 2>/dev/null; then
	equal "no_new_privs" 1 "$(sed -n 's/^NoNewPrivs:\s*//p' "/proc/$pid/status")"
	equal "umask" 0077 "$(sed -n 's/^Umask:\s*//p' "/proc/$pid/status")"
	[ "$(awk '/core file/ { print $5 }' "/proc/$pid/limits")" -le 1 ] || fail "core limit"
	ok "no_new_privs, umask, core limit"
fi

# The daemon's own descriptors (keeper's and server's) are all close-on-exec.
inherited() { # TARGET   from this shell or those above it
	local p=$$

	while [ "$p" -gt 1 ]; do
		! find "/proc/$p/fd" -printf '%l\n' 2>/dev/null | grep -qxF "$1" || return 0
		p=$(awk '/^PPid/ { print $2 }' "/proc/$p/status")
	done
	return 1
}
server=$(vcf_status_get 's["server_pid"]')
for fd in "/proc/$VCF_PID/fd"/* "/proc/$server/fd"/*; do
	n=${fd##*/}
	info=${fd%/fd/*}/fdinfo/$n
	[ "$n" -gt 2 ] && [ -e "$info" ] || continue
	flags=$(sed -n 's/^flags:\s*//p' "$info")
	[ $((flags & 02000000)) = 0 ] || continue
	inherited "$(readlink "$fd")" || fail "descriptor $n ($(readlink "$fd")) is not close-on-exec"
done
exec 9>&- 7<&-
ok "the daemon's descriptors are close-on-exec"
