/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/reform_impl.h"
#include "fs/replace.h"

bool reform_may_be_creation(const struct peek *peek, uint64_t size)
{
	return peek->kind == PEEK_EMPTY && size == CONTAINER_DATA_OFF;
}

static vcf_err_t say_already(struct job *j)
{
	struct container *c = NULL;
	vcf_err_t err = container_load(&c, j->old.fd, NULL, NULL);

	container_free(c);
	if (err)
		return tool_fail(j->f, -EBADMSG,
				 "a LUKS header that is not ours, or is damaged: see "
				 "vmcryptfs info, and adopt");
	tool_say(j->f, "is encrypted already");
	return -EALREADY;
}

/* 0: to be encrypted; -EALREADY: nothing to do. */
static vcf_err_t judge_plaintext(struct job *j, const struct stat *st)
{
	struct peek peek;
	vcf_err_t err = size_peek_fd(&peek, j->old.fd, (uint64_t)st->st_size);

	if (err)
		return err;
	if (peek.kind == PEEK_CONTAINER)
		return say_already(j);
	if (peek.kind == PEEK_DAMAGED)
		return tool_fail(j->f, -EBADMSG, "a damaged LUKS header");
	if (!st->st_size) {
		tool_say(j->f, "is empty: nothing to encrypt");
		return -EALREADY;
	}
	if (reform_may_be_creation(&peek, (uint64_t)st->st_size))
		return tool_fail(
			j->f, -EPERM,
			"begins with zeros and is as long as a header: it may be an "
			"image whose creation was cut short; copy it through the mount "
			"if it is none");
	return 0;
}

static vcf_err_t check_place(struct job *j)
{
	if (!*j->place.rel)
		return tool_fail(j->f, -EPERM,
				 "is not below the configuration's backing folder");
	if (!rules_is_image(rules_class(j->r->offline.rules, j->place.rel)))
		return tool_fail(j->f, -EPERM,
				 "a passthrough rule covers it: the mount would show its "
				 "ciphertext");
	return 0;
}

static vcf_err_t check_file(struct job *j, struct stat *st)
{
	if (fstat(j->old.fd, st) < 0)
		return -errno;
	if (!S_ISREG(st->st_mode))
		return tool_fail(j->f, -EPERM, "is no regular file");
	if (replace_is_temp(j->old.path))
		return tool_fail(j->f, -EPERM, "is what a run makes or has left");
	if (st->st_nlink > 1)
		return tool_fail(j->f, -EPERM,
				 "has %lu names: the others would keep the old file",
				 (unsigned long)st->st_nlink);
	return 0;
}

static vcf_err_t unlock_old(struct job *j)
{
	auto_secret struct secret *secret = NULL;
	vcf_err_t err = container_load(&j->old.c, j->old.fd, j->old.path, NULL);

	if (err)
		return tool_fail(j->f, err, "%s",
				 err == -EPERM ? "is plaintext" : offline_refusal(err));
	err = offline_fetch(&j->r->offline, &j->old, &secret);
	if (!err)
		err = container_unlock(j->old.c, secret, j->old.path);
	return err ? tool_fail(j->f, err, "its key cannot be had: %s", strerror(-err))
		   : 0;
}

vcf_err_t reform_open(struct job *j)
{
	struct stat st;
	vcf_err_t err = j->r->kind == REFORM_ENCRYPT ? check_place(j) : 0;

	if (err)
		return err;
	err = offline_claim(&j->old, j->place.path, j->r->tool.runtime, true);
	if (err)
		return tool_fail(j->f, err, "%s", offline_refusal(err));
	err = check_file(j, &st);
	if (!err)
		err = j->r->kind == REFORM_ENCRYPT ? judge_plaintext(j, &st)
						   : unlock_old(j);
	if (!err)
		err = replace_check_alone(j->old.fd);
	if (err == -EBUSY)
		return tool_fail(j->f, err, "somebody has it open");
	j->data = (uint64_t)st.st_blocks * 512;
	return err;
}
