/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A configuration file of any bytes is read, checked and printed. What was read without a
 * fault must be read again from its print without one.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/config.h"
#include "util/io.h"
#include "util/log.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return log_set_file("/dev/null") ? 1 : 0;
}

static struct config *read_bytes(const void *data, size_t len)
{
	auto_close int fd = memfd_create("config", MFD_CLOEXEC);
	auto_config struct config *c = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fd < 0 || fchmod(fd, 0600) || io_write_full(fd, data, len) || config_new(&c))
		abort();
	if (config_read(c, path))
		return NULL;
	return STEAL_PTR(&c);
}

/* A print has blanks around '=' that the file may have lacked. */
static bool fits(const char *text)
{
	for (; *text; text += strspn(text, "\n")) {
		size_t len = strcspn(text, "\n");

		if (len > 197)
			return false;
		text += len;
	}
	return true;
}

static void check_print(const struct config *c)
{
	auto_config struct config *again = NULL;
	auto_free char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	config_print(c, f);
	fclose(f);
	again = fits(text) ? read_bytes(text, len) : NULL;
	if (!again && fits(text))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	auto_config struct config *c = read_bytes(data, len);
	struct keyservice_option *options = NULL;
	size_t cnt;

	if (!c)
		return 0;
	check_print(c);
	if (config_finish(c, len & 1) == 0 &&
	    config_helper_section(c, &options, &cnt) == 0)
		free(options);
	return 0;
}
