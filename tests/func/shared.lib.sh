# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Two mounts, $MNT and $MNT2, over one folder, as two nodes have them: each with a state directory
# of its own, the keys common. After vcf_setup.
MNT2='' LOG2='' CONF2='' VCF_PID2=''

mounted2() { grep -qF " $MNT2 " /proc/self/mountinfo; }

shared_second() { :; } # CONFIG   what else is different there

shared_mount() { # [MOUNT-OPTION...]
	MNT2=$W/mnt2 LOG2=$W/log2 CONF2=$W/second.conf
	mkdir "$MNT2"
	mkdir -m 700 "$W/state2" "$W/run2"
	sed -e "s|^mountpoint = .*|mountpoint = $MNT2|" -e "s|$W/state|$W/state2|" \
		-e "s|$W/run|$W/run2|" "$CONF" >"$CONF2"
	chmod 600 "$CONF2"
	shared_second "$CONF2"
	vcf_mount -o mount.shared=yes "$@"
	# shellcheck disable=SC2034
	"$VMCRYPTFS" mount -f -o mount.shared=yes "$@" "$CONF2" >>"$LOG2" 2>&1 &
	VCF_PID2=$!
	at_exit "umount -l $MNT2 2>/dev/null; kill $VCF_PID2 2>/dev/null"
	wait_for 30 mounted2 || fail "no second mount: $(cat "$LOG2")"
}

shared_umount() {
	VMCRYPTFS_RUNTIME_DIRECTORY=$W/run2 "$VMCRYPTFS" umount "$MNT2"
	wait "$VCF_PID2" || fail "the second daemon's exit status"
	! grep -aE '\] (warn|err): |Sanitizer|runtime error' "$LOG2" |
		grep -v 'was killed by signal 9' || fail "in the second daemon's log"
}

run_of() { [ "$1" = 1 ] && echo "$W/run" || echo "$W/run2"; } # 1|2
mount_of() { [ "$1" = 1 ] && echo "$MNT" || echo "$MNT2"; }   # 1|2
server_of() { # 1|2   the process that serves
	VMCRYPTFS_RUNTIME_DIRECTORY=$(run_of "$1") "$VMCRYPTFS" status --json "$(mount_of "$1")" |
		python3 -c 'import json,sys; print(json.load(sys.stdin)["server_pid"])'
}

# Commands for programs to run, of their own as to what the shell here defines.
kill_command() { # 1|2
	echo "kill -9 \$(VMCRYPTFS_RUNTIME_DIRECTORY=$(run_of "$1") $VMCRYPTFS status --json $(mount_of "$1") |" \
		"python3 -c 'import json,sys; print(json.load(sys.stdin)[\"server_pid\"])')"
}
upgrade_command() { echo "VMCRYPTFS_RUNTIME_DIRECTORY=$(run_of "$1") $VMCRYPTFS upgrade $(mount_of "$1")"; } # 1|2

# Random operations through both mounts and on a plain file; a server is killed ten times.
# FSX_SEED repeats a run; FSX_LEN: the largest size.
shared_model() { # OPERATIONS [FSX-OPTION...]
	local ops=$1 kill
	shift

	kill_one() { kill -9 "$(server_of "$1")"; }
	expect_log 'was killed by signal 9'
	mkfifo "$W/ask" "$W/answer"
	(
		trap - EXIT
		n=0
		while read -r _; do
			n=$((n + 1))
			if kill_one $((n % 2 + 1)); then echo yes; else echo no; fi >"$W/answer"
		done <"$W/ask"
	) 8<>"$W/ask" &
	kill="echo please >$W/ask && grep -q yes $W/answer"
	"${FSX:-$VCF_BUILD/tests/func/fsx}" -n "$ops" ${FSX_SEED:+-s "$FSX_SEED"} -l "${FSX_LEN:-200001}" -c 1 \
		-r "$kill" -R $((ops / 10 + 1)) -k "$@" -2 "$MNT2/f" "$MNT/f" "$W/model"
	ok "$ops operations through two mounts, kill -9 of a server ten times"
}
