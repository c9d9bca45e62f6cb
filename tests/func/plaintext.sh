#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Plaintext found below is never adopted and never read.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
vcf_setup
vcf_config <<'CONFIG'
[rules]
passthrough = locks/**
derived = *.part
CONFIG
mkdir "$BACK/locks"
echo "an old disk" >"$BACK/old"
echo "an old part" >"$BACK/old.part"
echo "a lock" >"$BACK/locks/l"
pattern p 3000000 >"$BACK/large"
cp "$BACK/old" "$W/old"

"$VMCRYPTFS" check-tree -c "$CONF" >"$W/tree" 2>&1 || true
grep -q old "$W/tree" || fail "check-tree does not name the file: $(cat "$W/tree")"
grep -q 'or restore their headers, if they were images' "$W/tree" || fail "check-tree's advice: $(cat "$W/tree")"
ok "check-tree names it"

expect_log 'plaintext|not mounted'
if vcf_try_mount; then
	fail "mounted over plaintext"
fi
grep -q 'old' "$LOG" || fail "the log does not name the file"
ok "the mount refuses and names it"

vcf_mount --with-plaintext
for f in old old.part large; do
	must_fail_with "Operation not permitted" cat "$MNT/$f"
	must_fail_with "Operation not permitted" py open_only "$MNT/$f" rw
	must_fail_with "Operation not permitted" py open_only "$MNT/$f" trunc
done
same "$W/old" "$BACK/old"
ok "open and O_TRUNC are EPERM; nothing changed"

equal "passthrough" "a lock" "$(cat "$MNT/locks/l")"
stat "$MNT/old" >/dev/null
mv "$MNT/old" "$MNT/renamed"
same "$W/old" "$BACK/renamed"
must_fail truncate -s 0 "$MNT/renamed"
same "$W/old" "$BACK/renamed"
rm "$MNT/renamed"
[ ! -e "$BACK/renamed" ] || fail "still there"
echo new >"$MNT/new"
equal "a new file beside it" new "$(cat "$MNT/new")"
ok "stat, rename and unlink work"

vcf_umount
vcf_mount --with-plaintext -o key-service.linger=0
expect_log 'lost: (no LUKS header|cannot open)'
echo lost >"$MNT/lost"
no_keys() { [ "$(vcf_status_get "s['keys']")" = 0 ]; }
for _ in 1 2; do # the second time it is known to be a container
	wait_for 10 no_keys || fail "its key stays"
	equal "before" lost "$(cat "$MNT/lost")"
done
wait_for 10 no_keys || fail "its key stays"
dd if=/dev/urandom of="$BACK/lost" bs=1M count=1 conv=notrunc status=none
must_fail_with "Operation not permitted" cat "$MNT/lost"
# Which of the two: whether the kernel has kept what it knew of the file.
grep -qE 'lost: (no LUKS header: it is destroyed|plaintext .* its header is destroyed)' "$LOG" || fail "the log does not say why"
ok "an image whose header was destroyed under the mount: EPERM, and the log says why"

# What its libraries tell syslog nobody sees here; /dev/log of its own shows it.
[ "$(id -u)" = 0 ] || exit 0
cat >"$W/words.sh" <<'WORDS'
mount -t tmpfs none /mnt && touch /mnt/null /mnt/urandom
for f in null urandom; do mount --bind /dev/$f /mnt/$f; done
mount --move /mnt /dev
python3 -c '
import socket, subprocess, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("/dev/log")
s.setblocking(False)
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
try:
    print(s.recv(4096).decode())
except BlockingIOError:
    pass' "$@"
WORDS
need "namespaces" unshare --mount true
unshare --mount bash "$W/words.sh" "$VMCRYPTFS" check-tree -c "$CONF" >"$W/words"
[ ! -s "$W/words" ] || fail "syslog has: $(cat "$W/words")"
ok "check-tree says nothing to syslog"
