#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# `top` for 100 busy images: as text, and in a terminal (tmux) with keys, another size, and an end that gives the
# terminal back. Names of images reach no terminal as they are.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_prog python3 tmux
[ ! -w /dev/shm ] || VCF_TMPDIR=${VCF_TMPDIR:-/dev/shm} # a hundred headers are synced
expect_log 'the keys lie on the file system that they protect'
vcf_setup
vcf_mount -o mount.xattr=no

echo x >"$MNT/$(printf 'evil\033[2J\nname')"
python3 "$FUNC/busyimages.py" "$MNT" 100 120 >"$W/busy" &
BUSY=$!
wait_for 60 grep -q ready "$W/busy" || fail "no busy images"

"$VMCRYPTFS" top --once -d 1 -s iops "$MNT" >"$W/text"
equal "lines" 106 "$(wc -l <"$W/text")" # 4 of the head, 101 images, an empty one
grep -q 'images 101, open 100; key service ok' "$W/text" || fail "the head: $(head -n 4 "$W/text")"
grep -qE '^reads [1-9][0-9]*/s .* writes [1-9][0-9]*/s .* MiB/s, mean [0-9.]+ (us|ms), p99 ' "$W/text" ||
	fail "the sums: $(head -n 4 "$W/text")"
grep -qF 'evil\x1b[2J\x0aname' "$W/text" || fail "the awkward name"
sed -n '5,104p' "$W/text" | awk '{n = $1 + $2; if (NR > 1 && n > last + 2) bad = 1; last = n} END {exit bad}' ||
	fail "-s iops does not sort"
"$VMCRYPTFS" top -b -n 2 -d 1 -s name "$MNT" >"$W/text"
equal "two frames" 2 "$(grep -c 'R MiB/s' "$W/text")"
sed -n '6,105p' "$W/text" | sed 's/.* //' >"$W/names"
sort -c "$W/names" || fail "-s name"
equal "names" 100 "$(wc -l <"$W/names")"
must_fail_with "this is no terminal" "$VMCRYPTFS" top "$MNT"
must_fail "$VMCRYPTFS" top --once -s nothing "$MNT"
must_fail_with "no vmcryptfs answers" "$VMCRYPTFS" top --once -d 1 "$W"
ok "as text: rates of each image, sorted"

export TMUX_TMPDIR=$W TERM=xterm
unset TMUX
t() { tmux -L vcf -f /dev/null "$@"; }
shot() { t capture-pane -p -t top >"$W/screen"; }
shows() { shot && grep -qE -- "$1" "$W/screen"; }
at_exit "TMUX_TMPDIR=$W tmux -L vcf kill-server 2>/dev/null"
t new-session -d -s top -x 100 -y 30 "stty -a >$W/before; echo first screen; \
	'$VMCRYPTFS' top -r $W/run -d 1 '$MNT'; echo rc=\$?; stty -a >$W/after; sleep 300"
wait_for 30 shows '1-25 of 101 by iops' || fail "the first screen: $(cat "$W/screen")"
wait_for 30 shows 'writes [1-9][0-9]*/s' || fail "no rates: $(cat "$W/screen")"
equal "lines of the screen" 30 "$(wc -l <"$W/screen")"
equal "images on it" 25 "$(grep -cE 'guest-[0-9]{3}|evil' "$W/screen")"
! grep -q 'first screen' "$W/screen" || fail "not on a screen of its own"
t send-keys -t top n
wait_for 10 shows '1-25 of 101 by name' || fail "sort by name"
grep -qF 'evil\x1b[2J\x0aname' "$W/screen" || fail "the awkward name"
grep -q guest-023 "$W/screen" || fail "by name: $(cat "$W/screen")"
t send-keys -t top NPage
wait_for 10 shows '26-50 of 101' || fail "page down"
t send-keys -t top G
wait_for 10 shows '77-101 of 101' || fail "the end"
grep -q guest-099 "$W/screen" || fail "the end: $(cat "$W/screen")"
t send-keys -t top Up
wait_for 10 shows '76-100 of 101' || fail "up"
t send-keys -t top g
t resize-window -t top -x 76 -y 12
wait_for 10 shows '^1-7 of 101' || fail "another size: $(cat "$W/screen")"
equal "images on the small one" 7 "$(grep -cE 'guest-[0-9]{3}|evil' "$W/screen")"
ok "in a terminal: keys, pages, another size"

t send-keys -t top C-z # no shell with jobs is there: it must stop and go on
sleep 0.5
pkill -CONT -P "$(t list-panes -t top -F '#{pane_pid}')" || true
wait_for 10 shows 'of 101 by name' || fail "does not go on: $(cat "$W/screen")"
t send-keys -t top q
wait_for 10 shows 'rc=0' || fail "q: $(cat "$W/screen")"
grep -q 'first screen' "$W/screen" || fail "the first screen is lost"
wait_for 10 test -s "$W/after"
diff <(sed 1d "$W/before") <(sed 1d "$W/after") >&2 || fail "the terminal is another one"
ok "it gives the terminal back"
kill "$BUSY"
wait "$BUSY" || true
