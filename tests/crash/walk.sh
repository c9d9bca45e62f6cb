#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The daemon dies at each crash point of each operation that makes or removes an image; the
# next mount must find things in order. Needs a build with -Dcrash-points=true.
# usage: walk.sh [-v] [OPERATION [POINT]]
#
# One walk: a copy of the prepared folders is mounted with VCF_CRASH=POINT, the operation runs
# until the daemon is dead, and `vmcryptfs mount` alone mounts again. Then:
#   - what a name leads to opens and reads as its old or its new content, nothing between
#   - below, an image is empty, unfinished (no magic) or a whole container
#   - each container's secret is at the service, and (destroy-delay = 0, reserve = 0) within
#     seconds no other is, but the site's and those that the journal keeps for new images
#   - images can be made, written and removed as ever, after which nothing is left over
# POINT,POINT2: the second death comes during or after the mount that follows the first.
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
need_root
verbose=no
if [ "${1:-}" = -v ]; then
	verbose=yes
	shift
fi

only_op=${1:-} only_point=${2:-}

creation='create-begin create-room create-pages create-pages-synced create-using create-magic
	create-magic-synced'
making="reserve-creating reserve-made reserve-unused $creation reserve-used"
site='site-using site-written site-renamed site-synced'
wiping='wipe-chunk wipe-chunk:2 wipe-half wipe-done wipe-noted'
destroying='destroy-get destroy-checked destroy-done'
removal="remove-begin remove-intent remove-gone remove-unlinked $wiping $destroying"
notes='journal-written journal-written:2 journal-written:3'
twice='remove-intent,remove-begin remove-gone,destroy-get remove-unlinked,destroy-checked
	wipe-half,destroy-done wipe-noted,destroy-get'

declare -A points=(
	[create]="$making $notes create-using,destroy-done reserve-made,create-using"
	[create_derived]="$creation"
	[create_site]="$making $site site-using,destroy-done"
	[unlink]="$removal $notes $twice"
	[unlink_open]="$removal $twice"
	[unlink_derived]="remove-begin remove-intent remove-gone remove-unlinked $wiping"
	[unlink_early]="$making $removal"
	[rename_over]="rename-synced rename-done rename-folder $removal $twice"
	[rename_over_open]="rename-synced rename-done rename-folder $removal $twice"
)

# --- the operations; each runs in $MNT and dies somewhere ---

op_create() { echo new >image; }

op_create_derived() { echo new >image.part; }

op_create_site() { op_create_derived; } # from a template without a site secret

op_unlink() { rm -f victim; }

op_unlink_open() { py unlink_open victim; }

op_unlink_derived() { rm -f small.part; }

op_unlink_early() { py unlink_early image; }

op_rename_over() { mv -f source victim; }

op_rename_over_open() { py rename_over_open source victim; }

# --- what may be there afterwards: NAME CONTENT..., "-" is "no such name" ---

after_create() { expect image - "" new; }

after_create_derived() { expect image.part - "" new; }

after_create_site() { after_create_derived; }

after_unlink() { expect victim - "content victim"; }

after_unlink_open() { after_unlink; }

after_unlink_derived() { expect small.part - "content small.part"; }

after_unlink_early() { expect image - ""; }

after_rename_over() {
	if [ -e "$MNT/source" ]; then
		expect source "content source"
		expect victim "content victim"
	else
		expect victim "content source"
	fi
}

after_rename_over_open() { after_rename_over; }

# --- the walk ---

walks=0 bad=0
case_=''

violation() {
	echo "VIOLATION: $case_: $*"
	bad=$((bad + 1))
}

expect() { # NAME CONTENT...
	local name=$1 got c

	shift
	if [ ! -e "$MNT/$name" ]; then
		got=-
	elif ! got=$(timeout 20 cat "$MNT/$name" 2>&1); then
		violation "$name: $got"
		return
	fi
	for c in "$@"; do
		[ "$got" != "$c" ] || return 0
	done
	violation "$name: '$got'"
}

options=(-o key-service.reserve=0 -o key-service.destroy-delay=0 -o key-service.linger=0
	-o 'rules.derived=**/*.part')

serving() { vcf_status; }

serving_or_dead() { serving || [ -s "$W/daemon.rc" ]; }

# The daemon of a mount that may die at any moment. The mount of a dead one stays behind.
start() { # [CRASH-POINT]
	rm -f "$W/daemon.pid" "$W/daemon.rc"
	vcf_switches
	(
		trap - EXIT
		[ -z "${1:-}" ] || export VCF_CRASH=$1 VCF_CRASH_ALL=1
		rc=0
		"$VMCRYPTFS" mount -f "${SWITCHES[@]}" "${options[@]}" "$CONF" >>"$LOG" 2>&1 &
		echo $! >"$W/daemon.pid"
		wait $! 2>/dev/null || rc=$?
		echo $rc >"$W/daemon.rc"
	) &
	wait_for 20 serving_or_dead || fail "$case_: the mount hangs"
	VCF_PID=$(cat "$W/daemon.pid")
}

dead() { [ -s "$W/daemon.rc" ]; }

died() { # POINT
	wait_for 10 dead || {
		violation "point $1 is not reached"
		stop
		return
	}
	equal "$case_: status of a killed daemon" 137 "$(cat "$W/daemon.rc")"
}

stop() {
	dead || "$VMCRYPTFS" umount "$MNT" >/dev/null || fail "$case_: umount"
	wait_for 20 dead || fail "$case_: the daemon does not end"
}

secrets() { find "$KEYS" -type f -not -name '.*' | wc -l; }

kept() { vcf_status_get "s['key_service']['reserve']"; }

containers() { # the names below that carry a whole header of the class encrypt
	local f

	for f in "$BACK"/*; do
		[ -f "$f" ] || continue
		[ "$(head -c 4 "$f" | tr -d "\0")" != LUKS ] || echo "$f"
	done
}

key_of() { head -c 32768 "$1" | tr -d '\0' | grep -ao '"key_id":"[^"]*"' | head -n 1 | cut -d'"' -f4; }

# The secrets that must be there, by id.
needed() {
	local f

	for f in $(containers); do
		key_of "$f"
	done
	[ ! -s "$(site_file)" ] || cut -d' ' -f2 "$(site_file)"
}

site_file() { echo "$W"/state/*/site; }

in_order() {
	local ids id

	ids=$(needed | sort -u)
	for id in $ids; do
		[ -f "$KEYS/$id" ] || return 1
	done
	[ "$(secrets)" = $(($(wc -w <<<"$ids") + $(kept))) ]
}

explain() {
	echo "secrets: $(cd "$KEYS" && echo ./*); needed: $(needed | sort -u | xargs); kept: $(kept);" \
		"destroy_queue: $(vcf_status_get "s['destroy_queue']['waiting'], s['suspects']")"
}

check_below() {
	local f size

	for f in "$BACK"/*; do
		[ -e "$f" ] || continue
		size=$(stat -c %s "$f")
		[ "$size" != 0 ] && [ "$(head -c 4 "$f" | tr -d "\0")" != LUKS ] || continue
		[ "$(head -c 4096 "$f" | tr -d '\0' | wc -c)" = 0 ] && [ "$size" -le 2097152 ] ||
			violation "$(basename "$f"): neither empty nor a container"
	done
}

check_all() { # OPERATION
	check_below
	expect bystander "content bystander"
	"after_$1"
	wait_for 8 in_order || violation "secrets: $(explain)"
}

# Everything still works, and then nothing is left over.
check_life() {
	local f

	for f in image image.part another victim; do
		timeout 20 bash -c "echo again >'$MNT/$f'" || violation "$f: cannot be written"
		expect $f again
	done
	wait_for 8 in_order || violation "secrets of new images: $(explain)"
	rm -f "$MNT"/* || violation "rm"
	wait_for 8 in_order || violation "secrets after rm: $(explain)"
}

save() { # TEMPLATE
	mkdir "$W/$1"
	cp -a --sparse=always "$BACK" "$W/$1/back"
	cp -a "$W/state" "$W/$1/state"
	cp -a "$KEYS" "$W/$1/keys"
}

restore() { # TEMPLATE
	rm -rf "$BACK" "$W/state" "$KEYS"
	cp -a --sparse=always "$W/$1/back" "$BACK"
	cp -a "$W/$1/state" "$W/state"
	cp -a "$W/$1/keys" "$KEYS"
}

walk() { # OPERATION POINT[,POINT2]
	local first=${2%%,*} second=''

	case_="$1 at $2"
	[ "$first" = "$2" ] || second=${2#*,}
	walks=$((walks + 1))
	if [ "$1" = create_site ]; then restore without-site; else restore with-site; fi
	start "$first"
	(cd "$MNT" && "op_$1") >/dev/null 2>&1 || true
	died "$first"
	if [ -n "$second" ]; then
		start "$second"
		dead || (cd "$MNT" && "op_$1") >/dev/null 2>&1 || true
		died "$second"
	fi
	start
	if dead; then
		violation "cannot be mounted again"
		umount -l "$MNT" 2>/dev/null || true
		return
	fi
	check_all "$1"
	check_life
	stop
	[ $verbose = no ] || echo "$case_: done, $bad violations so far"
}

prepare() {
	local f

	start
	for f in bystander victim source; do
		echo "content $f" >"$MNT/$f"
	done
	stop
	save without-site
	start
	echo "content small.part" >"$MNT/small.part"
	stop
	save with-site
}

# No point of making and removing images is left out; points.sh visits the others.
check_names() {
	local name

	for name in $(grep -rhoP 'CRASHPOINT\("\K(create|reserve|site|remove|wipe|destroy)-[a-z-]+' \
		"$VCF_SRC"/{util,crypto,fs} | sort -u); do
		[ "$name" != name ] || continue
		grep -qwF -- "$name" <<<"${points[*]}" || violation "no walk to the point $name"
	done
}

grep -aq remove-intent "$VMCRYPTFS" ||
	skip "needs a build with -Dcrash-points=true"
vcf_setup
expect_log 'killed by signal 9'
expect_log 'the keeper is gone' # it dies a moment before its server
expect_log 'key.*(disk|file system)'
prepare
check_names
for op in "${!points[@]}"; do
	[ -z "$only_op" ] || [ "$only_op" = "$op" ] || continue
	for point in ${points[$op]}; do
		[ -z "$only_point" ] || [ "$only_point" = "$point" ] || continue
		walk "$op" "$point"
	done
done
[ $bad = 0 ] || fail "$walks walks (points x operations), $bad violations"
ok "$walks walks (points x operations), $bad violations"
