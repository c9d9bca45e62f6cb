/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/device_config.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/io.h"
#include "util/parse.h"

static vcf_err_t find_user(uint32_t *uid, const char *name)
{
	const struct passwd *pw = getpwnam(name);
	uint64_t number;

	if (!pw && parse_u64(name, 0, UINT32_MAX - 1, &number))
		return -EINVAL;
	*uid = pw ? pw->pw_uid : (uint32_t)number;
	return 0;
}

static vcf_err_t find_group(uint32_t *gid, const char *name)
{
	const struct group *gr = getgrnam(name);
	uint64_t number;

	if (!gr && parse_u64(name, 0, UINT32_MAX - 1, &number))
		return -EINVAL;
	*gid = gr ? gr->gr_gid : (uint32_t)number;
	return 0;
}

vcf_err_t device_first_attr(struct device_attr *out, const struct config *d)
{
	auto_free char *user = strdup(d->device_owner);
	char *colon = user ? strchr(user, ':') : NULL;
	char *end;
	unsigned long mode = strtoul(d->device_mode, &end, 8);

	if (!user)
		return -ENOMEM;
	if (!colon || *end || end == d->device_mode || mode > 0777 ||
	    *d->device_mode == '-')
		return -EINVAL;
	*colon = '\0';
	out->mode = (uint32_t)mode;
	if (find_user(&out->uid, user) || find_group(&out->gid, colon + 1))
		return -EINVAL;
	return 0;
}

int device_open(const struct config *d, int flags)
{
	auto_close int fd = open(d->device_path, flags | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return io_is_device(fd) ? STEAL_FD(&fd) : -ENOTBLK;
}

/* Not there is no more than not to be looked at: a volume group may be inactive. */
static vcf_err_t look(struct device_look *l, const struct config *d)
{
	int fd = device_open(d, O_RDONLY);

	if (fd < 0)
		return fd == -ENOENT ? -ENXIO : fd;
	l->fd = fd;
	return size_peek_fd(&l->peek, fd, 0);
}

int device_each(const struct config *c, int (*fn)(void *arg, const struct device_look *l),
		void *arg)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < c->device_cnt; i++) {
		const struct config *d = c->devices[i];
		struct device_look l = {
			.name = d->device_name, .path = d->device_path, .fd = -1};

		l.err = look(&l, d);
		rc = fn(arg, &l);
		if (l.fd >= 0)
			close(l.fd);
	}
	return rc;
}

const struct config *device_by_rdev(const struct config *c, uint64_t rdev)
{
	struct stat st;

	for (size_t i = 0; i < c->device_cnt; i++) {
		if (stat(c->devices[i]->device_path, &st) == 0 && S_ISBLK(st.st_mode) &&
		    st.st_rdev == rdev)
			return c->devices[i];
	}
	return NULL;
}
