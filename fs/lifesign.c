/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/lifesign.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/cleanup.h"

enum { PAGE_LEN = 4096 };

int lifesign_new(void)
{
	auto_close int fd =
		memfd_create("vmcryptfs-life", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, PAGE_LEN) < 0)
		return -errno;
	return STEAL_FD(&fd);
}

vcf_err_t lifesign_hold(int fd)
{
	void *map = mmap(NULL, PAGE_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		return -errno;
	if (madvise(map, PAGE_LEN, MADV_DONTFORK) < 0) {
		vcf_err_t err = -errno;

		munmap(map, PAGE_LEN);
		return err;
	}
	return 0;
}

bool lifesign_is_over(int fd)
{
	return fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0 || errno != EBUSY;
}
