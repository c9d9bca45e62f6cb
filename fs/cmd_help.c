/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

#include "build-config.h"
#include "fs/cmd.h"
#include "fs/config.h"

const struct command *command_find(const char *name)
{
	for (const struct command *c = commands; c->name; c++) {
		if (strcmp(c->name, name) == 0)
			return c;
	}
	return NULL;
}

int command_usage(const char *name)
{
	const struct command *c = command_find(name);

	fprintf(stderr, "usage: vmcryptfs %s %s\n", name, c ? c->usage : "");
	return EXIT_USAGE;
}

/* The first sentence (or line) of the help. */
static int summary_len(const char *help)
{
	size_t line = strcspn(help, "\n");
	const char *stop = strstr(help, ". ");

	return (int)(stop && (size_t)(stop - help) < line ? (size_t)(stop - help) + 1
							  : line);
}

static void list_commands(void)
{
	printf("vmcryptfs %s\n\nusage: vmcryptfs COMMAND [ARGUMENT]...\n\n", VCF_VERSION);
	for (const struct command *c = commands; c->name; c++)
		printf("  %-15s %.*s\n", c->name, summary_len(c->help), c->help);
	fputs("\nvmcryptfs help COMMAND explains one; vmcryptfs help config explains all "
	      "options of\nthe configuration.\n\n"
	      "Exit codes: 0 done, 1 failed, 2 usage, 3 configuration, 4 not mounted or "
	      "not found,\n5 busy, 6 refused (unsafe), 7 key service, 8 permission; 10 to 13: "
	      "of check-mount.\n",
	      stdout);
}

int cmd_help(int argc, char **argv)
{
	const struct command *c;

	if (argc > 2)
		return command_usage("help");
	if (argc == 2 && strcmp(argv[1], "config") == 0) {
		config_print_help(stdout);
		return EXIT_OK;
	}
	if (argc < 2) {
		list_commands();
		return EXIT_OK;
	}
	c = command_find(argv[1]);
	if (!c) {
		fprintf(stderr, "vmcryptfs: unknown command %s; see vmcryptfs help\n",
			argv[1]);
		return EXIT_USAGE;
	}
	printf("usage: vmcryptfs %s %s\n\n%s\n", c->name, c->usage, c->help);
	return EXIT_OK;
}
