/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/exitcode.h"
#include "fs/header.h"
#include "fs/keepbytes.h"
#include "fs/nodelock.h"
#include "fs/tooldata.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"

struct restore {
	struct header_job *job;
	int fd;
	uint64_t len;
	struct container *saved; /* unlocked */
	struct container *now;	 /* or NULL */
	bool mended;		 /* in memory, of `now` */
	bool forced;
};

static int say(struct restore *r, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int say(struct restore *r, int code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(r->job->text, sizeof(r->job->text), format, ap);
	va_end(ap);
	return code;
}

static int say_err(struct restore *r, const char *what, vcf_err_t err)
{
	return say(r, (int)exit_code_of(err), "%s: %s", what, strerror(-err));
}

/* --- the backup --- */

static int open_backup(struct restore *r)
{
	const char *path = r->job->backup;
	auto_close int fd = io_open_file(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, false);
	auto_secret struct secret *secret = NULL;
	char why[CONTAINER_WHY_LEN] = "", answer[TOOLKEYS_WHY_LEN];
	uint64_t len;
	vcf_err_t err = fd < 0 ? fd : io_file_len(fd, &len);

	if (!err)
		err = container_load_why(&r->saved, fd, why, NULL);
	if (err)
		return say(r,
			   err == -EBADMSG || err == -EPERM || err == -ENODATA
				   ? EXIT_REFUSED
				   : (int)exit_code_of(err),
			   "%s: %s", path,
			   *why				      ? why
			   : err == -EPERM || err == -ENODATA ? "no header is in it"
							      : strerror(-err));
	if (len != container_subject(r->saved)->data_off)
		return say(r, EXIT_REFUSED,
			   "%s: not a saved header alone: it has %" PRIu64
			   " bytes, its header %" PRIu64,
			   path, len, container_subject(r->saved)->data_off);
	err = toolkeys_unlock(r->job->keys, r->saved, r->job->path, &secret, answer);
	if (err)
		return say(r, (int)exit_code_of(err),
			   "nothing is written, for the backup opens nothing: %s",
			   answer);
	return EXIT_OK;
}

/* --- the header that is there --- */

enum present { PRESENT_OPENS, PRESENT_UNKNOWN, PRESENT_SHUT, PRESENT_GONE };

static enum present look_at_present(struct restore *r, char why[TOOLKEYS_WHY_LEN])
{
	auto_secret struct secret *secret = NULL;
	char refusal[CONTAINER_WHY_LEN];
	vcf_err_t err = container_load_why(&r->now, r->fd, refusal, &r->mended);

	snprintf(why, TOOLKEYS_WHY_LEN, "%s", strerror(-err));
	if (err)
		return err == -EBADMSG || err == -EPERM ? PRESENT_GONE : PRESENT_UNKNOWN;
	err = toolkeys_unlock(r->job->keys, r->now, r->job->path, &secret, why);
	if (!err)
		return PRESENT_OPENS;
	return err == -ENOKEY || err == -EKEYREJECTED || err == -EBADMSG
		       ? PRESENT_SHUT
		       : PRESENT_UNKNOWN;
}

/* It is the saved one, of which an earlier run has not come to the first copy. */
static int complete(struct restore *r)
{
	vcf_err_t err;

	if (memcmp(container_token(r->now)->mac, container_token(r->saved)->mac,
		   TOKEN_MAC_LEN) != 0)
		return say(r, EXIT_REFUSED,
			   container_has_key_of(r->saved, r->now)
				   ? "nothing is written: the header that it has opens it"
				   : "nothing is written: the header that it has opens "
				     "it, and the backup is of another volume key");
	err = r->mended ? container_write_mended(r->now, r->fd) : 0;
	if (err)
		return say_err(r, "its second copy cannot be written", err);
	return say(r, EXIT_OK, "its header is the saved one, and opens it");
}

static int refuse_other(struct restore *r)
{
	return say(r, EXIT_REFUSED,
		   "nothing is written: %s; if it is known that the image's uuid was %s, "
		   "--force-with-uuid answers for it",
		   r->now ? "the backup is of another volume key than the header that it "
			    "has, and its data does not say otherwise"
			  : "its data is not seen to be of the backup's volume key",
		   container_subject(r->saved)->uuid_text);
}

/* EXIT_OK: the volume key is that of the data, or somebody answers for it. */
static int check_key(struct restore *r)
{
	auto_tooldata struct tooldata *d = NULL;
	bool proven = r->now && container_has_key_of(r->saved, r->now);
	vcf_err_t err = proven ? 0 : tooldata_new(&d, r->saved);

	if (!err && !proven)
		err = tooldata_proves_key(d, r->fd, r->len, &proven);
	if (err)
		return say_err(r, "its data cannot be looked at", err);
	if (proven)
		return EXIT_OK;
	r->forced = r->job->uuid &&
		    strcasecmp(r->job->uuid, container_subject(r->saved)->uuid_text) == 0;
	return r->forced ? EXIT_OK : refuse_other(r);
}

/* --- the write --- */

/* It may be something else than a header. */
static vcf_err_t keep_present(struct restore *r, char kept[PATH_MAX])
{
	size_t len = (size_t)container_subject(r->saved)->data_off;
	auto_free unsigned char *buf = malloc(len);
	ssize_t n = buf ? io_pread_full(r->fd, buf, len, 0) : -ENOMEM;

	*kept = '\0';
	if (n < 0)
		return (vcf_err_t)n;
	if (io_is_zero(buf, (size_t)n))
		return 0;
	return keepbytes(kept, r->job->keys->cfg, container_subject(r->saved)->uuid_text,
			 0, buf, (size_t)n);
}

static vcf_err_t try_it(const struct restore *r)
{
	auto_container struct container *c = NULL;
	auto_secret struct secret *secret = NULL;
	char why[TOOLKEYS_WHY_LEN];
	vcf_err_t err = container_load(&c, r->fd, r->job->path, NULL);

	return err ? err : toolkeys_unlock(r->job->keys, c, r->job->path, &secret, why);
}

static int write_header(struct restore *r)
{
	char kept[PATH_MAX] = "";
	vcf_err_t err = r->forced ? keep_present(r, kept) : 0;

	if (err)
		return say_err(r, "what would be overwritten cannot be kept", err);
	CRASHPOINT("restore-begin");
	err = nodelock_byte(r->fd, NODELOCK_HEADER, true, true);
	if (err)
		log_dbg("no lock on the header: %s", strerror(-err));
	err = container_write_restored(r->saved, r->fd);
	if (!err)
		err = try_it(r);
	if (err)
		return say_err(r, "it could not be written; safe to try again", err);
	return say(r, EXIT_OK, "its header is the saved one now, and opens it%s%s",
		   *kept ? "; what was there is kept: " : "", kept);
}

static int restore(struct restore *r)
{
	char why[TOOLKEYS_WHY_LEN];
	uint64_t data_off = container_subject(r->saved)->data_off;
	enum present present;
	int code;

	if (r->len < data_off)
		return say(r, EXIT_REFUSED,
			   "nothing is written: it is shorter than the header, %" PRIu64
			   " bytes",
			   r->len);
	present = look_at_present(r, why);
	if (present == PRESENT_OPENS)
		return complete(r);
	if (present == PRESENT_UNKNOWN)
		return say(r, EXIT_REFUSED,
			   "nothing is written, for it cannot be told whether the header "
			   "that it has opens it: %s",
			   why);
	code = check_key(r);
	return code ? code : write_header(r);
}

int header_restore(struct header_job *j, const struct offline_file *file)
{
	struct restore r = {.job = j, .fd = file->fd};
	vcf_err_t err = io_file_len(file->fd, &r.len);
	int code = err ? say_err(&r, "its length", err) : open_backup(&r);

	if (!code)
		code = restore(&r);
	container_free(r.now);
	container_free(r.saved);
	return code;
}
