#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Another user changes the tree below the mount while it is used: folders and files become symbolic links
# that lead out of it, FIFOs, sockets, devices, other images; names that no terminal should see; very many entries.
# usage: hostiletree.sh [SECONDS [ENTRIES]]    of the races (default 3); of one folder (10000)
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
need_prog setpriv python3
seconds=${1:-3} entries=${2:-10000}
vcf_setup
chmod 755 "$W"
# Below it and seen from the mount the same relative link leads to different places.
mkdir -m 755 "$W/deep"
mv "$BACK" "$W/deep/back"
BACK=$W/deep/back
sed -i "s|^backing = .*|backing = $BACK|" "$CONF"
install -m 755 "$FUNC/hostiletree.py" "$W/tree.py"
tree() { "$W/tree.py" "$@"; }
other() { setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "$@"; }
# What is refused in a race is said. What does not become an image is read as it is: an escape would show.
vcf_config <<'CONFIG'
[rules]
passthrough = race/folder*
passthrough = race/folder*/**
passthrough = race/[fps]*
passthrough = clear/**
CONFIG
expect_log '(err|warn): race/'

mkdir -m 777 "$W/deep/outside" "$BACK/race"
head -c 100 /dev/urandom | base64 >"$W/deep/outside/canary"
chmod 666 "$W/deep/outside/canary"
vcf_mount -o key-service.linger=0
rss() { awk '/^VmRSS/ { print $2 }' "/proc/$(vcf_status_get 's["server_pid"]')/status"; }
fds() { find "/proc/$(vcf_status_get 's["server_pid"]')/fd" -mindepth 1 | wc -l; }
mkdir -m 777 "$MNT/race/folder"
for f in file pipe socket image image.other; do
	pattern "$f" 9000 >"$MNT/race/$f"
	cp "$MNT/race/$f" "$W/$f.plain"
done
chown -R 65534:65534 "$BACK/race"
outside() { find "$W/deep/outside" -printf '%P %y %m %U %s %n %T@ %C@\n' | sort; }
outside >"$W/outside.before"
before=$(fds)
other "$W/tree.py" swap "$BACK/race" "$seconds" >"$W/swaps" &
timeout $((seconds + 60)) "$W/tree.py" use "$MNT/race" "$seconds" "$W/deep/outside/canary" \
	"$W/image.plain" "$W/image.other.plain" || fail "while the tree changes"
wait $!
cat "$W/swaps"
outside | diff "$W/outside.before" - || fail "something outside was touched"
settled() { [ "$(fds)" -le $((before + 20)) ]; }
wait_for 20 settled || fail "descriptors: $before before, $(fds) after"
ok "folders, files and links exchanged: nothing outside is opened, made or changed"

# What cannot be a file of ours is not opened by the server; the kernel does not reach devices.
mknod "$BACK/zero" c 1 5
mknod "$BACK/disk" b 7 0
mkfifo "$BACK/fifo"
for f in zero disk; do
	must_fail_with "Permission denied" timeout 20 dd if="$MNT/$f" of=/dev/null bs=512 count=1
done
must_fail timeout 1 cat "$MNT/fifo"
echo seen >"$MNT/victim"
for kind in p "c 1 5" "b 7 0"; do # the kernel still knows a file
	stat "$MNT/victim" >/dev/null
	mv "$BACK/victim" "$BACK/hidden"
	# shellcheck disable=SC2086
	mknod "$BACK/victim" $kind
	timeout 20 dd if="$MNT/victim" iflag=nonblock of="$W/got" bs=512 count=1 2>"$W/stderr" ||
		[ $? = 1 ] || fail "open hangs: $kind"
	[ ! -s "$W/got" ] || equal "$kind" seen "$(cat "$W/got")"
	rm "$BACK/victim"
	mv "$BACK/hidden" "$BACK/victim"
done
sleep 1.1
equal "the file itself" seen "$(cat "$MNT/victim")"
rm "$BACK/zero" "$BACK/disk" "$BACK/fifo"
ok "FIFOs and devices, planted or put in a file's place"

# Hard links across classes, made below.
mkdir "$BACK/clear"
echo "in the clear" >"$BACK/clear/text"
ln "$BACK/clear/text" "$BACK/as-image"
ln "$BACK/victim" "$BACK/clear/as-text"
expect_log 'as-image'
must_fail_with "Operation not permitted" cat "$MNT/as-image"
cmp "$MNT/clear/as-text" "$BACK/victim" || fail "not the bytes below"
equal "the image" seen "$(cat "$MNT/victim")"
must_fail_with "Invalid cross-device link" ln "$MNT/victim" "$MNT/clear/through"
rm "$BACK/as-image" "$BACK/clear/as-text"
ok "hard links across classes: plaintext stays unread, ciphertext stays ciphertext"

# Folders that go under those who have them open, and a file system that comes.
mkdir "$MNT/goes"
exec 8<"$MNT/goes"
rmdir "$BACK/goes"
timeout 20 ls /proc/self/fd/8/ >/dev/null 2>&1 || true
must_fail timeout 20 touch /proc/self/fd/8/new
exec 8<&-
mkdir "$BACK/sub"
mount -t tmpfs hostile "$BACK/sub"
at_exit "umount -l '$BACK/sub' 2>/dev/null"
timeout 20 bash -c "echo there >'$MNT/sub/f'" 2>"$W/stderr" || true
umount -l "$BACK/sub" # the server may have it open
timeout 20 stat "$MNT/sub/f" >/dev/null 2>&1 || true
expect_log '(goes|sub)/'
equal "all else" seen "$(cat "$MNT/victim")"
ok "folders that go, mounts that come and go below"

# Longer than any path, and as deep.
mkdir "$MNT/p"
python3 - "$MNT/p" <<'PY' || fail "deep paths"
import os, sys
os.chdir(sys.argv[1])
depth = 0
try:
    for depth in range(60):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
        with open("f", "w") as f:
            f.write("deep")
        if open("f").read() != "deep":
            sys.exit("not what was written")
except OSError as e:
    print(f"at {depth * 201} bytes: {e.strerror}")
PY
rm -rf "$MNT/p"
[ ! -e "$BACK/p" ] || fail "left below"
expect_log 'd{200}|File name too long'
: >"$MNT/sparse"
must_fail_with "File too large" truncate -s 4611686018427387904 "$MNT/sparse"
equal "size after it" 0 "$(stat -c %s "$MNT/sparse")"
expect_log 'sparse.*(File too large|truncat)'
ok "paths beyond all bounds, 2^62 bytes"

# Very many entries, made below.
mkdir "$BACK/clear/many"
tree fill "$BACK/clear/many" "$entries"
begun=$SECONDS
rss=$(rss)
equal "entries" "$entries" "$(find "$MNT/clear/many" -mindepth 1 -printf . | wc -c)"
# Each name that the kernel knows costs the server a descriptor.
look=$(($(ulimit -Hn) / 4))
[ $look -le "$entries" ] || look=$entries
(cd "$MNT/clear/many" && seq -f 'entry-%06g' 0 $((look - 1)) | xargs stat -c %s) >"$W/looked" || fail "stat"
equal "entries, looked at" "$look" "$(grep -cx 0 "$W/looked")"
more=$(($(rss) - rss))
[ $more -lt 200000 ] || fail "the server has grown by $more KiB"
ok "$entries entries, $look looked at, in $((SECONDS - begun)) s; the server has $more KiB more"
rm -rf "$BACK/clear/many"

# Odd names: of plaintext, which check-tree and the mount list, and of images.
vcf_umount
mkdir "$BACK/odd"
tree odd "$BACK/odd"
escaped() { ! grep -aqP '[\x00-\x08\x0b-\x1f\x7f]|^forged' "$1" || fail "raw in $1: $(cat -v "$1")"; }
"$VMCRYPTFS" check-tree -c "$CONF" >"$W/tree" 2>&1 || true
grep -q 'odd/' "$W/tree" || fail "not listed: $(cat -v "$W/tree")"
escaped "$W/tree"
expect_log 'odd/|not mounted|plaintext|more such'
if vcf_try_mount 2>/dev/null; then fail "mounted over plaintext"; fi
escaped "$LOG"
rm -r "$BACK/odd"
vcf_mount
mkdir "$MNT/odd"
tree odd "$MNT/odd"
exec 9<"$MNT/odd/"*red*
vcf_status >"$W/status"
python3 -m json.tool "$W/status" >/dev/null || fail "not JSON"
escaped "$W/status"
exec 9<&-
escaped "$LOG"
for f in "$MNT"/odd/*; do
	equal "content" plaintext "$(cat "$f")"
done
ok "names with newlines, escapes and bytes that are not UTF-8 are shown as text"
