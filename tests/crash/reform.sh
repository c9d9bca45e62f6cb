#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# encrypt, convert and decrypt are killed: at each crash point they pass, and at random moments. After
# that, and before anything else is run, the file is the old one or the new one; after the next run it
# is the new one, nothing is left beside it, and the service has the secrets of what there is.
# Needs a build with -Dcrash-points=true.
# usage: reform.sh [RANDOM-KILLS]
. "$(dirname "${BASH_SOURCE[0]}")/../func/lib.sh"
need_fuse
need "python3-cryptography" /usr/bin/python3 -c 'import cryptography'
grep -aq replace-exchanged "$VMCRYPTFS" || skip "needs a build with -Dcrash-points=true"
kills=${1:-40}
vcf_setup
vcf_config <<'CONFIG'
[rules]
derived = *.part
CONFIG
options=(-o key-service.reserve=0 -o key-service.destroy-delay=0)
: >"$W/trace"
: >"$W/passed"

pattern 1 2500000 >"$W/ref"
truncate -s 5000001 "$W/ref"
pattern 2 3000000 >"$W/ref.part"
vcf_mount "${options[@]}"
cat "$W/ref.part" >"$MNT/first.part"
cat "$W/ref" >"$MNT/first"
rm "$MNT/first.part" "$MNT/first"
secrets() { find "$KEYS" -type f | wc -l; }
site_alone() { [ "$(secrets)" = 1 ]; }
wait_for 20 site_alone || fail "secrets: $(secrets)"
vcf_umount

mkdir "$W/out"
tool() { # WHAT FILE
	local what=$1 file=$2
	case $what in
	encrypt | wipe | site)
		set -- encrypt
		[ "$what" != wipe ] || set -- encrypt --wipe
		;;
	luks1) set -- convert --format luks1 ;;
	luks2) set -- convert --format luks2 --sector-size 4096 ;;
	decrypt) set -- decrypt --replace-by-plaintext ;;
	output)
		rm -f "$W/out/$file"
		set -- decrypt --output "$W/out/$file"
		;;
	esac
	exec "$VMCRYPTFS" "$@" -c "$CONF" "${options[@]}" "$BACK/$file" >>"$W/tool.out" 2>>"$W/tool.err"
}
run() { (tool "$@"); }

kind_of() { "$VMCRYPTFS" info --json "$BACK/$1" | python3 -c 'import json,sys; print(json.load(sys.stdin)["kind"])'; }

whole() { # FILE WHEN   without any run of ours in between
	local kind
	kind=$(kind_of "$1")
	case $kind in
	plaintext) same "$W/ref${1#f}" "$BACK/$1" ;;
	container)
		[ -s "$KEYS/$(key_id_of "$BACK/$1")" ] || fail "$2: the secret of $1 is gone"
		[ "$1" = f ] || return 0 # not one that is derived
		/usr/bin/python3 "$VCF_SRC/contrib/luksread.py" "$BACK/$1" "$KEYS/$(key_id_of "$BACK/$1")" "$W/now" ||
			fail "$2: $1 is no container"
		same "$W/ref" "$W/now"
		;;
	*) fail "$2: $1 is $kind" ;;
	esac
}

# The mount's queue destroys what is due.
look() { # WHAT FILE WHEN
	local what=$1 file=$2 when=$3 left want=1
	left=$(find "$BACK" "$W/out" -name '.*.vmcryptfs')
	equal "$when: left behind" "" "$left"
	case $what in
	decrypt) same "$W/ref${file#f}" "$BACK/$file" ;;
	output) same "$W/ref${file#f}" "$W/out/$file" ;;
	esac
	vcf_mount --with-plaintext "${options[@]}"
	[ "$(kind_of "$file")" = plaintext ] || [ "$file" != f ] || want=2
	enough() { [ "$(secrets)" = "$want" ]; }
	wait_for 20 enough || fail "$when: $(secrets) secrets, not $want"
	[ "$what" = decrypt ] || same "$W/ref${file#f}" "$MNT/$file"
	vcf_umount
}

prepare() { # WHAT FILE   the state that it begins with
	rm -f "$BACK/$2"
	cp --sparse=always "$W/ref${2#f}" "$BACK/$2"
	case $1 in
	luks1 | decrypt | output) run encrypt "$2" ;;
	luks2) run encrypt "$2" && run luks1 "$2" ;;
	site) rm -f "$KEYS"/* "$W/state"/*/site ;;
	esac
}

# The secrets of an image that is removed below the mount are nobody's: through the mount, then.
clean() { # FILE
	[ -e "$BACK/$1" ] || return 0
	vcf_mount --with-plaintext "${options[@]}"
	rm "$MNT/$1"
	wait_for 20 site_alone || fail "secrets: $(secrets)"
	vcf_umount
}

again() { # WHAT FILE WHEN
	run "$1" "$2" || {
		# decrypted already: the run has only cleaned up
		[ "$1" = decrypt ] && [ "$(kind_of "$2")" = plaintext ] || fail "$3: the next run: $(tail -n 3 "$W/tool.err")"
	}
	look "$1" "$2" "$3"
	clean "$2"
}

points_of() { # WHAT FILE   that it passes, with how often
	prepare "$1" "$2"
	: >"$W/trace"
	VCF_CRASH_TRACE=$W/trace run "$1" "$2" || fail "$1 $2: $(tail -n 3 "$W/tool.err")"
	sed 's/^[0-9]* //' "$W/trace" | sort | uniq -c
	clean "$2"
}

walk() { # WHAT FILE
	local cnt point k rc
	points_of "$1" "$2" >"$W/points"
	while read -r cnt point; do
		for k in 1 "$cnt"; do
			[ "$k" != 1 ] || [ "$cnt" != 0 ] || continue
			prepare "$1" "$2"
			echo "$point:$k" >"$W/crash"
			rc=0
			{ VCF_CRASH_FILE=$W/crash run "$1" "$2"; } 2>/dev/null || rc=$?
			[ "$rc" = 137 ] || fail "$1 $2: $point:$k was not passed ($rc)"
			whole "$2" "$1 $2 killed at $point:$k"
			again "$1" "$2" "$1 $2 killed at $point:$k"
			echo "$point" >>"$W/passed"
			[ "$cnt" != 1 ] || break
		done
	done <"$W/points"
	ok "$1 $2: $(wc -l <"$W/points") points"
}

if [ "$kills" -ge 0 ]; then
	walk encrypt f
	walk wipe f.part
	walk site f.part
	walk luks1 f
	walk luks2 f.part
	walk decrypt f
	walk output f
fi

random_kills() { # COUNT
	local i what file pid rc cut=0 took
	prepare encrypt f
	took=$(date +%s%N)
	run encrypt f
	took=$((($(date +%s%N) - took) / 1000000 + 1))
	clean f
	for ((i = 0; i < $1; i++)); do
		file=f
		[ $((RANDOM % 3)) != 0 ] || file=f.part
		what=$(shuf -n1 -e encrypt wipe luks1 luks2 decrypt)
		prepare "$what" "$file"
		(tool "$what" "$file") &
		pid=$!
		sleep "0.$(printf %03d $((RANDOM % took)))"
		kill -9 $pid 2>/dev/null || true
		rc=0
		wait $pid 2>/dev/null || rc=$?
		cut=$((cut + (rc == 137)))
		whole "$file" "kill $i of $what $file"
		again "$what" "$file" "kill $i of $what $file"
	done
	ok "$1 kills at random moments, $cut while it was at work"
}
random_kills "${kills#-}"
