/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/caps.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CAPS_MAX = 64 }; /* the kernel's own limit: two words of 32 */

/* EINVAL: the kernel knows no more of them. Without CAP_SETPCAP what is there stays. */
vcf_err_t caps_bound(uint64_t keep)
{
	for (int cap = 0; cap < CAPS_MAX; cap++) {
		int has = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);

		if (has < 0)
			return errno == EINVAL ? 0 : -errno;
		if (!has || keep & CAPS_BIT(cap))
			continue;
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return errno == EPERM ? 0 : -errno;
	}
	return 0;
}

static vcf_err_t reduce(uint64_t keep)
{
	struct __user_cap_header_struct hdr = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &hdr, data) < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		uint32_t word = (uint32_t)(keep >> (32 * i));

		data[i].effective &= word;
		data[i].permitted &= word;
		data[i].inheritable = 0;
	}
	return syscall(SYS_capset, &hdr, data) < 0 ? -errno : 0;
}

vcf_err_t caps_keep(uint64_t keep)
{
	vcf_err_t err;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 &&
	    errno != EINVAL)
		return -errno;
	err = caps_bound(keep);
	return err ? err : reduce(keep);
}
