/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A server in this process with a client on its socket, folders of its own, and gate-helper as its
 * key helper. Four workers, no reserve, unless the settings say otherwise.
 */
#ifndef VCF_TESTS_PROTOCOL_RIG_H
#define VCF_TESTS_PROTOCOL_RIG_H

#include "fs/server.h"
#include "tests/protocol/fuseclient.h"
#include "tests/unit/unit.h"

enum { ROOT = FUSE_ROOT_ID };

/* What a kernel of today offers that matters here. */
#define RIG_INIT_FLAGS                                                                   \
	(FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES |                       \
	 FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |            \
	 FUSE_ASYNC_DIO | FUSE_WRITEBACK_CACHE | FUSE_PARALLEL_DIROPS |                  \
	 FUSE_HANDLE_KILLPRIV | FUSE_MAX_PAGES | FUSE_HANDLE_KILLPRIV_V2 |               \
	 FUSE_INIT_EXT | FC_DIRECT_IO_ALLOW_MMAP)

struct rig {
	char dir[512]; /* holds backing/, keys/, mnt/ and the state's files */
	struct config *cfg;
	int rootfd;
	struct server *sv;
	struct fc *c;
	int fds; /* open descriptors before the server came */
	bool with_plaintext;
};

/* Fresh folders; settings: "section.key=value", NULL at the end (or NULL). */
void rig_new(struct rig *r, const char *const *settings);
/* Brings the server up and says INIT; rig_down() ends it and checks that nothing leaks. */
void rig_up(struct rig *r);
void rig_down(struct rig *r);
void rig_free(struct rig *r);

/* rig_new() and rig_up(); rig_down() and rig_free(). */
void rig_start(struct rig *r, const char *const *settings);
void rig_end(struct rig *r);

/* text: see gate-helper.c; NULL: open. */
void rig_gate(struct rig *r, const char *text);
/* How often the helper was asked for a key so far. */
int rig_asked(struct rig *r);
void rig_kill_helpers(struct rig *r);

/* A path in the backing folder; the string is static. */
const char *rig_backing(struct rig *r, const char *name);
int rig_open_fds(void);

/* Live records, the root's node included. */
size_t rig_nodes(struct rig *r);
size_t rig_handles(struct rig *r);
/* Waits until so many requests are parked. */
void rig_wait_parked(struct rig *r, size_t cnt);
void rig_sleep_ms(int ms);

/* An image with len bytes of a pattern, closed again; returns its nodeid (one lookup). */
uint64_t rig_image(struct rig *r, uint64_t parent, const char *name, size_t len);
void rig_pattern(unsigned char *buf, size_t len, unsigned int seed);
/* Forgets all and sees whether the tables are as at the start. */
void rig_check_empty(struct rig *r);

#endif
