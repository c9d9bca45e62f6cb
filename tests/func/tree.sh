#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The tree is the backing file system's: folders, links, renames with flags, modes, times, xattrs.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_fuse
need_root
need_prog setfattr getfattr setpriv
vcf_setup
vcf_mount
cd "$MNT"

mkdir -p a/b/c
rmdir a/b/c
must_fail_with "Directory not empty" rmdir a
must_fail_with "File exists" mkdir a
ok "folders"

echo content >a/f
ln -s f a/sym
equal "readlink" f "$(readlink a/sym)"
equal "through the symlink" content "$(cat a/sym)"
must_fail_with "Too many levels" py open_only a/sym nofollow
ln a/f a/hard
equal "links" 2 "$(stat -c %h a/f)"
equal "same inode" "$(stat -c %i a/f)" "$(stat -c %i a/hard)"
echo more >>a/hard
equal "through the other name" "content more" "$(tr '\n' ' ' <a/f | sed 's/ $//')"
rm a/f
equal "the other name stays" 1 "$(stat -c %h a/hard)"
equal "its content, too" "content more" "$(tr '\n' ' ' <a/hard | sed 's/ $//')"
ok "symbolic and hard links"

mv a/hard a/g
[ ! -e a/hard ] || fail "the old name is there"
echo other >a/h
must_fail_with "File exists" py rename2 noreplace a/g a/h
py rename2 noreplace a/g a/new
py rename2 exchange a/new a/h
equal "exchanged" other "$(cat a/new)"
mv -f a/h a/new
equal "replaced" "content more" "$(tr '\n' ' ' <a/new | sed 's/ $//')"
mkdir d
mv d a/d2
mv a/new a/d2/deep
mv a/d2 d3
equal "moved with its folder" "content more" "$(tr '\n' ' ' <d3/deep | sed 's/ $//')"
must_fail mv d3 d3/self
ok "rename, NOREPLACE, EXCHANGE, over a file, folders"

chmod 4751 d3/deep
equal "mode" 4751 "$(stat -c %a d3/deep)"
chown 12:34 d3/deep
equal "owner" 12:34 "$(stat -c %u:%g d3/deep)"
touch -d '2001-02-03 04:05:06.789012345 UTC' d3/deep
equal "mtime" "2001-02-03 04:05:06.789012345" "$(TZ=UTC stat -c %y d3/deep | cut -c1-29)"
touch -a -d '1999-01-01 UTC' d3/deep
equal "mtime stays" "2001-02-03 04:05:06.789012345" "$(TZ=UTC stat -c %y d3/deep | cut -c1-29)"
touch .
ok "chmod, chown, utimens"

(umask 027; : >u; mkdir ud; mkfifo uf)
equal "umask" "640 750 640" "$(stat -c %a u ud uf | tr '\n' ' ' | sed 's/ $//')"
mkdir sg
chown 0:99 sg
chmod 2775 sg
: >sg/f
mkdir sg/d
equal "setgid folder gives its group" "99 99 2755" "$(stat -c %g sg/f) $(stat -c '%g %a' sg/d)"
mkdir -m 1777 sticky
: >sticky/f
must_fail_with "Operation not permitted" setpriv --reuid=65534 --regid=65534 --clear-groups \
	rm -f sticky/f
ok "umask, setgid folders, sticky folders"

(echo through the fifo >uf) &
equal "fifo" "through the fifo" "$(cat uf)"
wait $!
ok "fifo"

for n in user.one trusted.two; do
	setfattr -n $n -v "value of $n" d3/deep
	equal "xattr $n" "value of $n" "$(getfattr --only-values -n $n d3/deep)"
done
equal "list" "trusted.two user.one" \
	"$(getfattr -m 'user|trusted' d3/deep | grep -v '^#' | xargs)"
setfattr -x user.one d3/deep
must_fail_with "No such attribute" getfattr --only-values -n user.one d3/deep
setfattr -n user.x -v y d3
ok "xattrs"

if py open_only . tmpfile 2>"$W/stderr"; then
	ok "O_TMPFILE"
else
	grep -q "not supported" "$W/stderr" || fail "O_TMPFILE: $(cat "$W/stderr")"
	ok "O_TMPFILE is cleanly unsupported"
fi
py unlinked_io gone
[ ! -e gone ] || fail "gone is there"
py fsync_dir .
py fsync_dir d3
must_fail_with "File exists" py open_only d3/deep excl
must_fail_with "Not a directory" py open_only d3/deep dir
must_fail_with "No such file" cat nothing
must_fail_with "File name too long" cat "$(printf 'n%.0s' {1..300})"
ok "unlinked files, fsync of folders, errnos"

equal "statfs" "$(stat -f -c '%b %s' "$BACK")" "$(stat -f -c '%b %s' .)"
diff <(cd "$BACK" && find . -printf '%P %y %m %U %G %n %T@\n' | sort) \
	<(find . -printf '%P %y %m %U %G %n %T@\n' | sort) || fail "the two sides differ"
ok "both sides show the same tree"
