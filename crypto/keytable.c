/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The area: one header of 128 bytes, then the records, 128 bytes each. What a later
 * process must find is in the area; the free list and the mutex are this process's own
 * and are built anew by keytable_attach().
 *
 *   record state   generation   other fields
 *   free           0            zero, or the remains of a death in put or del
 *   used           > 0          complete: they were written before the generation
 *
 * A put writes the fields, then the generation; a del clears the generation, then the
 * fields. Generations come from one counter in the header and never name two keys (until
 * it has counted 2^32).
 */
#include "crypto/keytable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "crypto/kdf.h"
#include "crypto/secret.h"
#include "util/crashpoint.h"
#include "util/lock.h"
#include "util/log.h"

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447 /* the same on all architectures that have it */
#endif

enum {
	AREA_MAGIC = 0x564b5401,      /* "VKT", version 1 */
	HIDDEN_FS_MAGIC = 0x5345434d, /* SECRETMEM_MAGIC of linux/magic.h */
};

struct area_header {
	uint32_t magic;
	uint32_t records;
	_Atomic uint32_t generation; /* the last one given out */
	uint32_t reserved[29];
};

struct record {
	_Atomic uint32_t generation;
	uint32_t reserved;
	unsigned char uuid[UUID_LEN];
	unsigned char kcv[KCV_LEN];
	unsigned char key[VOLUME_KEY_LEN];
	unsigned char next_uuid[UUID_LEN];
	_Atomic uint32_t renaming; /* kcv may be that of next_uuid */
	unsigned char pad[4];
};
_Static_assert(sizeof(struct area_header) == 128, "the header is as long as a record");
_Static_assert(sizeof(struct record) == 128, "two cache lines");

struct keytable {
	struct mutex lock;
	int fd;			 /* (c) */
	size_t area_len;	 /* (c) */
	struct area_header *hdr; /* (c) */
	struct record *records;	 /* (c) the records themselves: (l) for put and del */
	uint32_t record_cnt;	 /* (c) */
	uint32_t *free_slots;	 /* (l) a stack */
	uint32_t free_cnt;	 /* (l) */
};

static size_t area_len_of(size_t records)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return ((records + 1) * sizeof(struct record) + page - 1) / page * page;
}

/* A user may have a low soft limit and a high hard one; ours alone is at stake. */
static void raise_memlock(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_MEMLOCK, &rl) || rl.rlim_cur == rl.rlim_max)
		return;
	rl.rlim_cur = rl.rlim_max;
	if (setrlimit(RLIMIT_MEMLOCK, &rl))
		log_dbg("the limit of locked memory stays: %s", strerror(errno));
}

static void *map_shared(int fd, size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

/*
 * Takes over `made`. A hidden area counts as locked memory: its mmap fails where the
 * limit does not allow it.
 */
static vcf_err_t use_memfd(struct keytable *kt, int made)
{
	auto_close int fd = made;

	if (fd < 0 || ftruncate(fd, (off_t)kt->area_len) < 0)
		return -errno;
	kt->hdr = map_shared(fd, kt->area_len);
	if (!kt->hdr)
		return -errno;
	kt->fd = STEAL_FD(&fd);
	return 0;
}

/* Hidden memory is never swapped and never dumped; mlock(2) refuses it. */
static bool is_hidden(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && (uint32_t)fs.f_type == HIDDEN_FS_MAGIC;
}

static vcf_err_t lock_area(struct keytable *kt)
{
	if (is_hidden(kt->fd))
		return 0;
	if (mlock(kt->hdr, kt->area_len) < 0)
		return errno == EPERM ? -EPERM : -ENOMEM;
	madvise(kt->hdr, kt->area_len, MADV_DONTDUMP);
	return 0;
}

static void log_limit(const struct keytable *kt, vcf_err_t err)
{
	log_err("cannot lock %zu KiB of memory for volume keys: %s; raise RLIMIT_MEMLOCK "
		"by at least that (ulimit -l, LimitMEMLOCK=)",
		kt->area_len / 1024, strerror(-err));
}

static void push_free(struct keytable *kt, uint32_t slot)
{
	kt->free_slots[kt->free_cnt++] = slot;
}

/* From the last to the first, so that slots are handed out from 0 upwards. */
static void build_free_list(struct keytable *kt)
{
	for (uint32_t i = kt->record_cnt; i > 0; i--) {
		struct record *r = &kt->records[i - 1];

		if (atomic_load(&r->generation))
			continue;
		secret_wipe(r, sizeof(*r));
		push_free(kt, i - 1);
	}
}

static void unmap(struct keytable *kt)
{
	if (kt->hdr)
		munmap(kt->hdr, kt->area_len);
	if (kt->fd >= 0)
		close(kt->fd);
	mutex_fini(&kt->lock);
	free(kt->free_slots);
	free(kt);
}

DEFINE_AUTO(table_shell, struct keytable *, unmap)
#define auto_table_shell __attribute__((cleanup(cleanup_table_shell)))

static vcf_err_t alloc_shell(struct keytable **out, size_t records)
{
	struct keytable *kt;

	if (!records || records > 1u << 20)
		return -EINVAL;
	kt = calloc(1, sizeof(*kt));
	if (!kt)
		return -ENOMEM;
	mutex_init(&kt->lock, RANK_KEYTABLE);
	kt->fd = -1;
	kt->area_len = area_len_of(records);
	kt->record_cnt = (uint32_t)records;
	kt->free_slots = calloc(records, sizeof(*kt->free_slots));
	*out = kt;
	return kt->free_slots ? 0 : -ENOMEM;
}

static vcf_err_t make_area(struct keytable *kt, bool *hidden)
{
	vcf_err_t err = use_memfd(kt, (int)syscall(SYS_memfd_secret, O_CLOEXEC));

	if (err)
		err = use_memfd(kt, memfd_create("vmcryptfs-keys", MFD_CLOEXEC));
	if (!err)
		err = lock_area(kt);
	if (!err)
		*hidden = is_hidden(kt->fd);
	return err;
}

vcf_err_t keytable_new(struct keytable **out, size_t records, bool *hidden)
{
	auto_table_shell struct keytable *kt = NULL;
	vcf_err_t err = alloc_shell(&kt, records);

	if (err)
		return err;
	raise_memlock();
	err = make_area(kt, hidden);
	if (err) {
		log_limit(kt, err);
		return err;
	}
	/* Writing faults the pages in: a hidden area is not populated by mmap. */
	memset(kt->hdr, 0, kt->area_len);
	kt->records = (struct record *)(kt->hdr + 1);
	kt->hdr->magic = AREA_MAGIC;
	kt->hdr->records = (uint32_t)records;
	build_free_list(kt);
	*out = STEAL_PTR(&kt);
	return 0;
}

static bool kcv_fits(const struct record *r, const unsigned char uuid[UUID_LEN],
		     const unsigned char want[KCV_LEN])
{
	unsigned char kcv[KCV_LEN];

	return !keytable_kcv(kcv, r->key, uuid) && !memcmp(kcv, want, KCV_LEN);
}

/* True if the record's key is what it was when it was put. */
static bool record_sound(const struct record *r)
{
	return kcv_fits(r, r->uuid, r->kcv);
}

/* Its process died in keytable_rename(): the kcv tells which uuid is the right one. */
static void end_rename(struct record *r)
{
	if (!atomic_exchange(&r->renaming, 0))
		return;
	if (kcv_fits(r, r->next_uuid, r->kcv))
		memcpy(r->uuid, r->next_uuid, UUID_LEN);
}

/* A record that is no longer sound must never encrypt anything. */
static size_t drop_unsound(struct keytable *kt)
{
	size_t dropped = 0;

	for (uint32_t i = 0; i < kt->record_cnt; i++) {
		struct record *r = &kt->records[i];

		if (!atomic_load(&r->generation))
			continue;
		end_rename(r);
		if (record_sound(r))
			continue;
		atomic_store(&r->generation, 0);
		dropped++;
	}
	return dropped;
}

static vcf_err_t map_area(struct keytable *kt, int fd)
{
	struct stat st;
	vcf_err_t err;

	kt->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (kt->fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size != kt->area_len)
		return -EBADMSG;
	kt->hdr = map_shared(fd, kt->area_len);
	err = kt->hdr ? lock_area(kt) : -ENOMEM;
	if (err)
		log_limit(kt, err);
	return err;
}

vcf_err_t keytable_attach(struct keytable **out, int fd, size_t records, size_t *dropped)
{
	auto_table_shell struct keytable *kt = NULL;
	vcf_err_t err = alloc_shell(&kt, records);

	if (err)
		return err;
	raise_memlock();
	err = map_area(kt, fd);
	if (err)
		return err;
	if (kt->hdr->magic != AREA_MAGIC || kt->hdr->records != records)
		return -EBADMSG;
	kt->records = (struct record *)(kt->hdr + 1);
	*dropped = drop_unsound(kt);
	build_free_list(kt);
	*out = STEAL_PTR(&kt);
	return 0;
}

void keytable_detach(struct keytable *kt)
{
	if (kt)
		unmap(kt);
}

void keytable_free(struct keytable *kt)
{
	if (!kt)
		return;
	for (uint32_t i = 0; i < kt->record_cnt; i++)
		atomic_store(&kt->records[i].generation, 0);
	secret_wipe(kt->records, kt->record_cnt * sizeof(*kt->records));
	unmap(kt);
}

vcf_err_t keytable_pin(int fd)
{
	struct stat st;
	void *area;
	vcf_err_t err;

	if (is_hidden(fd))
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	raise_memlock();
	area = map_shared(fd, (size_t)st.st_size);
	if (!area)
		return -errno;
	madvise(area, (size_t)st.st_size, MADV_DONTDUMP);
	madvise(area, (size_t)st.st_size, MADV_DONTFORK);
	if (mlock(area, (size_t)st.st_size) == 0)
		return 0;
	err = -errno;
	munmap(area, (size_t)st.st_size);
	return err;
}

int keytable_fd(const struct keytable *kt)
{
	return kt->fd;
}

static bool halves_equal(const unsigned char key[VOLUME_KEY_LEN])
{
	unsigned int diff = 0;

	for (int i = 0; i < VOLUME_KEY_LEN / 2; i++)
		diff |= key[i] ^ key[i + VOLUME_KEY_LEN / 2];
	return diff == 0;
}

static uint32_t next_generation(struct keytable *kt)
{
	uint32_t g = atomic_fetch_add(&kt->hdr->generation, 1) + 1;

	return g ? g : atomic_fetch_add(&kt->hdr->generation, 1) + 1;
}

vcf_err_t keytable_put(struct keytable *kt, const unsigned char uuid[UUID_LEN],
		       const unsigned char kcv[KCV_LEN],
		       const unsigned char key[VOLUME_KEY_LEN], struct key_ref *out)
{
	SCOPED_LOCK(&kt->lock);
	struct record *r;

	if (halves_equal(key))
		return -EINVAL;
	if (!kt->free_cnt)
		return -ENFILE;
	out->slot = kt->free_slots[--kt->free_cnt];
	out->generation = next_generation(kt);
	r = &kt->records[out->slot];
	memcpy(r->uuid, uuid, UUID_LEN);
	memcpy(r->kcv, kcv, KCV_LEN);
	memcpy(r->key, key, VOLUME_KEY_LEN);
	CRASHPOINT("key-filled");
	atomic_store_explicit(&r->generation, out->generation, memory_order_release);
	return 0;
}

static struct record *find(const struct keytable *kt, struct key_ref ref)
{
	struct record *r;

	if (!ref.generation || ref.slot >= kt->record_cnt)
		return NULL;
	r = &kt->records[ref.slot];
	if (atomic_load_explicit(&r->generation, memory_order_acquire) != ref.generation)
		return NULL;
	return r;
}

const unsigned char *keytable_key(const struct keytable *kt, struct key_ref ref)
{
	const struct record *r = find(kt, ref);

	return r ? r->key : NULL;
}

void keytable_rename(struct keytable *kt, struct key_ref ref,
		     const unsigned char uuid[UUID_LEN], const unsigned char kcv[KCV_LEN])
{
	SCOPED_LOCK(&kt->lock);
	struct record *r = find(kt, ref);

	if (!r)
		return;
	memcpy(r->next_uuid, uuid, UUID_LEN);
	atomic_store(&r->renaming, 1);
	CRASHPOINT("key-renaming");
	memcpy(r->kcv, kcv, KCV_LEN);
	CRASHPOINT("key-half-renamed");
	memcpy(r->uuid, uuid, UUID_LEN);
	CRASHPOINT("key-renamed");
	atomic_store(&r->renaming, 0);
}

void keytable_del(struct keytable *kt, struct key_ref ref)
{
	SCOPED_LOCK(&kt->lock);
	struct record *r = find(kt, ref);

	if (!r)
		return;
	atomic_store(&r->generation, 0);
	CRASHPOINT("key-gone");
	secret_wipe(r->uuid, sizeof(*r) - offsetof(struct record, uuid));
	push_free(kt, ref.slot);
}

bool keytable_is(const struct keytable *kt, struct key_ref ref,
		 const unsigned char uuid[UUID_LEN])
{
	const struct record *r = find(kt, ref);

	return r && memcmp(r->uuid, uuid, UUID_LEN) == 0;
}

bool keytable_fits(const struct keytable *kt, struct key_ref ref,
		   const unsigned char uuid[UUID_LEN], const unsigned char kcv[KCV_LEN])
{
	const struct record *r = find(kt, ref);

	return r && kcv_fits(r, uuid, kcv);
}

size_t keytable_keep(struct keytable *kt, bool (*keep)(void *arg, struct key_ref ref),
		     void *arg)
{
	size_t dropped = 0;

	for (uint32_t i = 0; i < kt->record_cnt; i++) {
		struct key_ref ref = {.slot = i, .generation = kt->records[i].generation};

		if (!ref.generation || keep(arg, ref))
			continue;
		keytable_del(kt, ref);
		dropped++;
	}
	return dropped;
}

size_t keytable_count(const struct keytable *kt)
{
	struct mutex *lock = (struct mutex *)(uintptr_t)&kt->lock;

	SCOPED_LOCK(lock);
	return kt->record_cnt - kt->free_cnt;
}
