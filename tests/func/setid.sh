#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Writes past the page cache clear set-id bits as others do; a size that is set again is a change.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
need_prog setpriv
vcf_setup
vcf_mount

nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
for mode in 4777 2777; do
	: >"$MNT/empty"
	chmod $mode "$MNT/empty"
	"${nobody[@]}" bash -c "echo x >>'$MNT/empty'"
	equal "mode after the first byte" 777 "$(stat -c %a "$MNT/empty")"
	head -c 8192 /dev/zero >"$MNT/direct"
	chmod $mode "$MNT/direct"
	"${nobody[@]}" dd if=/dev/zero of="$MNT/direct" bs=4096 count=1 conv=notrunc oflag=direct status=none
	equal "mode after O_DIRECT" 777 "$(stat -c %a "$MNT/direct")"
	chmod $mode "$MNT/direct"
	dd if=/dev/zero of="$MNT/direct" bs=4096 count=1 conv=notrunc oflag=direct status=none
	equal "mode after root's write" $mode "$(stat -c %a "$MNT/direct")"
	rm "$MNT/empty" "$MNT/direct"
done
ok "set-id bits"

# NAME COMMAND...: by nobody (set-id bits go) and by root (they stay), on a file that has content.
change() {
	local name=$1 mode
	shift
	for mode in 4777 2777 2767; do
		head -c 8192 /dev/zero >"$MNT/f"
		chmod $mode "$MNT/f"
		"${nobody[@]}" "$@" "$MNT/f"
		equal "$name by nobody, $mode" "$([ $mode = 2767 ] && echo 2767 || echo 777)" \
			"$(stat -c %a "$MNT/f")"
		equal "$name by nobody below" "$(stat -c %a "$MNT/f")" "$(stat -c %a "$BACK/f")"
		chmod $mode "$MNT/f"
		"$@" "$MNT/f"
		equal "$name by root, $mode" $mode "$(stat -c %a "$MNT/f")"
		rm "$MNT/f"
	done
}
# shellcheck disable=SC2016
{
	change "buffered write" bash -c 'printf x 1<>"$0"'
	change "append" bash -c 'printf x >>"$0"'
	change "truncate to less" truncate -s 100
	change "truncate to more" truncate -s 20000
	change "O_TRUNC" bash -c ': >"$0"'
	change "fallocate" fallocate -l 30000
	change "punch" fallocate -p -o 0 -l 4096
}
head -c 8192 /dev/zero >"$MNT/f"
chmod 6777 "$MNT/f"
chown 65534:65534 "$MNT/f"
equal "mode after chown" 777 "$(stat -c %a "$MNT/f")"
ok "set-id bits, by every way to change a file"

if command -v setcap >/dev/null && cp /bin/true "$MNT/cap" && setcap cap_net_raw+ep "$MNT/cap" 2>"$W/setcap"; then
	getcap "$MNT/cap" | grep -q net_raw || fail "no capability"
	printf x 1<>"$MNT/cap"
	equal "capability after a write" "" "$(getcap "$MNT/cap")"
	ok "capabilities of files"
fi

: >"$MNT/none"
echo x >"$MNT/some"
: >"$MNT/some"
for f in none some; do
	touch -d 2001-01-01 "$MNT/$f"
	: >"$MNT/$f"
	[ "$(stat -c %Y "$MNT/$f")" -gt 1000000000 ] || fail "$f: O_TRUNC of an empty file left its mtime"
done
ok "O_TRUNC of an empty file"
