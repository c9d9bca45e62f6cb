/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For func-guard: the program on a kernel before 6.5, which cannot mount beneath a mount. */
#include <errno.h>
#include <sys/mount.h>

#ifndef MOVE_MOUNT_BENEATH
#define MOVE_MOUNT_BENEATH 0x200
#endif

int __real_move_mount(int from_fd, const char *from, int to_fd, const char *to,
		      unsigned int flags);
int __wrap_move_mount(int from_fd, const char *from, int to_fd, const char *to,
		      unsigned int flags);

int __wrap_move_mount(int from_fd, const char *from, int to_fd, const char *to,
		      unsigned int flags)
{
	if (!(flags & MOVE_MOUNT_BENEATH))
		return __real_move_mount(from_fd, from, to_fd, to, flags);
	errno = EINVAL;
	return -1;
}
