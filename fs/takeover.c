/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Order matters: see takeover.h. Replays run on the starting thread, each in the slot that holds
 * it, so that a fault is counted against the right request and a second death finds them as this
 * one did.
 */
#include "fs/takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include <fuse_lowlevel.h>

#include "fs/async.h"
#include "fs/deferred.h"
#include "fs/imagetable.h"
#include "fs/keyset.h"
#include "fs/node.h"
#include "fs/nodelock.h"
#include "fs/ops.h"
#include "fs/reqcheck.h"
#include "util/crashpoint.h"
#include "util/log.h"
#include "util/sysfilter.h"

enum { FAULTS_MAX = 3, NOTIFY_RESEND = 7 /* FUSE_NOTIFY_RESEND, Linux 6.9 */ };

/*
 * Faults
 */

static const int guarded[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};
enum { GUARDED_CNT = sizeof(guarded) / sizeof(guarded[0]), ALT_STACK_LEN = 64 * 1024 };
static struct sigaction before[GUARDED_CNT];

/* A signal that somebody sent is nobody's fault. */
static bool is_own(const siginfo_t *si)
{
	return si->si_code > 0 || si->si_pid == getpid();
}

static void on_fault(int sig, siginfo_t *si, void *context)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;
	struct worker *w = current_worker;
	char text[SYSFILTER_TEXT_MAX];
	bool refused = sysfilter_describe(text, si);

	if (sysfilter_answer(si, context))
		return;
	if (refused && !atomic_flag_test_and_set(&said))
		log_err_from_signal(text);
	if (w && w->slot && w->slot->busy && is_own(si)) {
		w->slot->faults++;
		if (w->async)
			w->async->faults++;
	}
	for (int i = 0; i < GUARDED_CNT; i++) {
		if (guarded[i] == sig)
			sigaction(sig, &before[i], NULL);
	}
	/*
	 * A real fault happens again on return, an abort(3) goes on; one that was sent is sent on. A
	 * call that was refused would be passed over.
	 */
	if (si->si_code <= 0 || refused)
		raise(sig);
}

void server_guard(void)
{
	struct sigaction sa = {.sa_sigaction = on_fault,
			       .sa_flags = SA_SIGINFO | SA_ONSTACK};

	for (int i = 0; i < GUARDED_CNT; i++)
		sigaction(guarded[i], &sa, &before[i]);
}

/* A stack that overflowed cannot carry its own handler. Freed by the end of the process only. */
void server_guard_thread(void)
{
	stack_t now, ss = {.ss_size = ALT_STACK_LEN};

	if (sigaltstack(NULL, &now) == 0 && !(now.ss_flags & SS_DISABLE))
		return;
	ss.ss_sp = mmap(NULL, ALT_STACK_LEN, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ss.ss_sp == MAP_FAILED || sigaltstack(&ss, NULL) < 0)
		log_dbg("no stack for signal handlers: %s", strerror(errno));
}

void server_test_fault(const char *name)
{
#if VCF_CRASH_POINTS
	if (strcmp(name, "user.vmcryptfs.crash") == 0)
		__builtin_trap();
	if (strcmp(name, "user.vmcryptfs.forbidden") == 0)
		syscall(SYS_ptrace, 0, 0, 0, 0);
#else
	(void)name;
#endif
}

/* A worker that stands in for the thread that had the slot. */
static struct worker stand_in(struct server *sv, unsigned int slot)
{
	struct worker w = {.sv = sv, .io = sv->workers[0].io};

	w.slot = &sv->session->slots[slot];
	w.slot->waits =
		0; /* the dead thread's; while this one waits for another node, it is marked */
	nodelock_set_mark(&w.slot->waits);
	w.req = session_buffer(sv->session, slot) + SESSION_PAGE_LEN -
		SESSION_REQ_HEAD_LEN;
	w.req_len = SESSION_REQ_HEAD_LEN + SESSION_REQ_ROOM;
	return w;
}

/*
 * FUSE_INIT
 */

void takeover_save_init(struct server *sv, const void *msg, size_t len)
{
	struct session_head *h = sv->session->head;

	if (len > sizeof(h->init)) {
		log_err("FUSE_INIT of %zu bytes: too long to be kept, the server will not be "
			"replaced when it dies",
			len);
		return;
	}
	memcpy(h->init, msg, len);
	atomic_store(&h->init_len, (uint32_t)len);
}

/* The kernel's own FUSE_INIT, if it was read and not answered: false if there is none. */
static bool answer_init(struct server *sv)
{
	for (unsigned int i = 0; i < SESSION_WORKERS_MAX; i++) {
		struct worker w = stand_in(sv, i);
		const struct fuse_in_header *in = (const void *)w.req;
		struct fuse_buf buf = {.mem = w.req, .size = in->len};

		if ((!w.slot->unique && !w.slot->tid) || in->opcode != FUSE_INIT ||
		    in->len < sizeof(*in) || in->len > w.req_len ||
		    !reqcheck_sound(in, in->len) || !server_is_awaited(sv, in->unique))
			continue;
		current_worker = &w;
		fuse_session_process_buf(sv->se, &buf);
		worker_drop_request(&w);
		current_worker = NULL;
		return true;
	}
	return false;
}

static void play_init(struct server *sv)
{
	struct session_head *h = sv->session->head;
	unsigned char msg[SESSION_INIT_MAX] __attribute__((aligned(8)));
	struct fuse_buf buf = {.mem = msg, .size = h->init_len};
	struct fuse_in_header *in = (void *)msg;

	memcpy(msg, h->init, h->init_len);
	in->unique = TAKEOVER_INIT_UNIQUE;
	fuse_session_process_buf(sv->se, &buf);
}

vcf_err_t takeover_init(struct server *sv)
{
	uint32_t len = sv->session->head->init_len;

	if (!len || len > SESSION_INIT_MAX)
		return -EPROTO;
	if (!answer_init(sv))
		play_init(sv);
	if (fuse_session_exited(sv->se))
		return -EPROTO;
	sv->inited = true;
	return 0;
}

/*
 * Images
 */

/* Nobody was told of the growth: its request is executed again, from where it began. */
static vcf_err_t take_growth_back(struct server *sv, struct image_entry *e, uint64_t plen)
{
	struct node *n = state_node(sv->state, e->nodeid);
	auto_close int fd = n ? node_reopen(sv, n, O_RDWR) : -ENOENT;
	const struct image_file f = {.fd = fd, .direct_fd = -1};

	if (fd < 0)
		return fd;
	if (image_size(e->image) <= plen)
		return 0;
	return image_truncate(e->image, &f, &sv->workers[0].io, plen);
}

struct grown {
	struct image_entry *entries[SESSION_SLOTS_MAX];
	size_t cnt;
};

/* As many as were under way at most. */
static void note_grown(void *arg, const struct image_entry *e)
{
	struct grown *g = arg;

	if (e->record->grow_from && g->cnt < SESSION_SLOTS_MAX)
		g->entries[g->cnt++] = (struct image_entry *)(uintptr_t)e;
}

static void settle_sizes(struct server *sv)
{
	struct grown g = {.cnt = 0};

	imagetable_each(sv->images, note_grown, &g);
	for (size_t i = 0; i < g.cnt; i++) {
		struct session_image *r = g.entries[i]->record;
		uint64_t plen = r->grow_from - 1;
		vcf_err_t err = take_growth_back(sv, g.entries[i], plen);

		if (err)
			log_err("%s: its size should be %llu again: %s", r->path,
				(unsigned long long)plen, strerror(-err));
		CRASHPOINT("growth-back");
		r->grow_from = 0;
	}
}

vcf_err_t takeover_images(struct server *sv)
{
	vcf_err_t err = imagetable_take_over(sv->images);

	CRASHPOINT("takeover-images");
	if (!err)
		settle_sizes(sv);
	return err;
}

/*
 * Requests
 */

/*
 * What changes sizes comes first, so that nobody sees one half changed; what nobody waits for, last.
 */
enum { PASS_SIZES, PASS_WRITES, PASS_OTHERS, PASS_ENDS, PASS_CNT };

static int pass_of(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_SETATTR:
	case FUSE_FALLOCATE:
		return PASS_SIZES;
	case FUSE_WRITE:
		return PASS_WRITES;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
		return PASS_ENDS;
	default:
		return PASS_OTHERS;
	}
}

static bool has_answer(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET;
}

/* One that always crashes the server must not take the others with it. */
static void refuse_poison(struct server *sv, struct worker *w)
{
	const struct fuse_in_header *in = (const void *)w->req;
	char path[STATE_PATH_MAX] = "?";
	const struct node *n = state_node(sv->state, in->nodeid);

	if (n && state_path(sv->state, n, path))
		path[0] = '\0';
	log_err("%s: request %llu (opcode %u) has crashed the server %u times: it gets EIO",
		path, (unsigned long long)in->unique, in->opcode, w->slot->faults);
	sv->session->head->poisoned++;
	if (has_answer(in->opcode))
		server_reply(sv, in->unique, -EIO, NULL, 0);
}

/* The request lies in w's buffer. */
static void execute_left(struct server *sv, struct worker *w)
{
	struct fuse_in_header *in = (void *)w->req;
	bool known = w->slot->unique == in->unique;

	CRASHPOINT("replay-begins");
	if (in->len < sizeof(*in) || in->len > w->req_len ||
	    !reqcheck_sound(in, in->len) || in->opcode == FUSE_INTERRUPT ||
	    (has_answer(in->opcode) && !server_is_awaited(sv, in->unique))) {
		worker_drop_request(w);
		return;
	}
	/* The entries that it counted were in no answer. */
	if (known && has_answer(in->opcode))
		state_unmark(sv->state, w->slot);
	sv->session->head->replayed++;
	CRASHPOINT("replay-checked");
	if (known && w->slot->faults >= FAULTS_MAX)
		refuse_poison(sv, w);
	else
		server_execute(w, in->len);
	worker_drop_request(w);
	CRASHPOINT("replay-done");
}

static void execute_slots(struct server *sv, int pass)
{
	for (unsigned int i = 0; i < SESSION_SLOTS_MAX; i++) {
		struct worker w = stand_in(sv, i);
		const struct fuse_in_header *in = (const void *)w.req;

		if (!sv->session->slots[i].unique && !sv->session->slots[i].tid)
			continue; /* never used: do not touch its pages */
		if (!in->len || pass_of(in->opcode) != pass)
			continue;
		current_worker = &w;
		execute_left(sv, &w);
	}
}

static bool lies_in_slot(struct server *sv, unsigned int from, uint64_t unique)
{
	for (unsigned int i = from; i < SESSION_SLOTS_MAX; i++) {
		const struct session_slot *s = &sv->session->slots[i];
		struct worker w = stand_in(sv, i);
		const struct fuse_in_header *in = (const void *)w.req;

		if ((s->unique || s->tid) && in->len && in->unique == unique)
			return true;
	}
	return false;
}

/* A request may lie in a slot and in the park area: then it was on its way between them. */
static void drop_double(void *arg, struct session_parked *r, const void *req)
{
	struct server *sv = arg;

	(void)req;
	if (lies_in_slot(sv, 0, r->unique))
		deferred_drop_left(sv->deferred, r);
}

/* The same for asynchronous ones. What is not sound was never published. */
static void drop_double_async(struct server *sv)
{
	struct session *s = sv->session;

	for (unsigned int i = 0; i < SESSION_ASYNC_MAX; i++) {
		struct session_async *r = &s->async[i];
		bool sound = r->len >= sizeof(struct fuse_in_header) &&
			     r->len <= SESSION_REQ_HEAD_LEN + SESSION_ASYNC_IO;

		if (!r->unique || (sound && !lies_in_slot(sv, 0, r->unique)))
			continue;
		if (!sound) {
			log_err("session state: asynchronous request %llu is damaged and "
				"dropped",
				(unsigned long long)r->unique);
			s->head->dropped++;
		}
		r->unique = 0;
	}
}

/*
 * A worker parked it, and an executor went on with it before the worker had emptied its buffer: what
 * was made since (a handle, lookups) is in the executor's slot.
 */
static void drop_passed_on(struct server *sv)
{
	for (unsigned int i = 0; i < SESSION_WORKERS_MAX; i++) {
		struct worker w = stand_in(sv, i);
		const struct fuse_in_header *in = (const void *)w.req;

		if ((w.slot->unique || w.slot->tid) && in->len &&
		    lies_in_slot(sv, SESSION_WORKERS_MAX, in->unique))
			worker_drop_request(&w);
	}
}

/* It begins anew; if it has to wait again it is parked again. */
static void execute_parked(void *arg, struct session_parked *r, const void *req)
{
	struct server *sv = arg;
	struct worker w = stand_in(sv, 0);

	current_worker = &w;
	worker_put_request(&w, req, r);
	CRASHPOINT("replay-parked");
	deferred_drop_left(sv->deferred, r);
	execute_left(sv, &w);
}

/* Its transfer may have been done, or begun, or not: none is under way any more (lifesign.h). */
static void execute_async(struct server *sv, unsigned int i)
{
	struct session_async *r = &sv->session->async[i];
	struct session_parked p = {.len = r->len, .faults = r->faults};
	struct worker w = stand_in(sv, 0);

	if (!r->unique)
		return;
	p.unique = r->unique;
	current_worker = &w;
	worker_put_request(&w, async_request(sv->session, i), &p);
	CRASHPOINT("replay-async");
	r->unique = 0;
	execute_left(sv, &w);
}

static void execute_all(struct server *sv)
{
	drop_passed_on(sv);
	drop_double_async(sv);
	deferred_each_left(sv->deferred, drop_double, sv);
	/* Those of the slots first: they may park, and slot 0 is needed for the others. */
	for (int pass = 0; pass < PASS_CNT; pass++)
		execute_slots(sv, pass);
	for (unsigned int i = 0; i < SESSION_ASYNC_MAX; i++)
		execute_async(sv, i);
}

/*
 * Deletions
 */

/* The entries without an outcome, as they were found: jobs of this server add their own. */
struct left {
	struct server *sv;
	uint64_t *ids;
	size_t cnt, room;
};

static int add_id(struct left *left, uint64_t id)
{
	uint64_t *ids;

	if (left->cnt == left->room) {
		ids = reallocarray(left->ids, 2 * left->room + 16, sizeof(*ids));
		if (!ids)
			return -ENOMEM;
		left->ids = ids;
		left->room = 2 * left->room + 16;
	}
	left->ids[left->cnt++] = id;
	return 0;
}

static bool carries(struct server *sv, int pathfd, const unsigned char *uuid)
{
	auto_close int fd = node_reopen_fd(sv, pathfd, O_RDONLY);
	char text[UUID_TEXT_LEN + 1];
	struct peek peek;
	struct stat st;

	uuid_unparse_lower(uuid, text);
	return fd >= 0 && fstat(fd, &st) == 0 &&
	       size_peek_fd(&peek, fd, (uint64_t)st.st_size) == 0 &&
	       peek.kind == PEEK_CONTAINER && strcmp(peek.uuid_text, text) == 0;
}

/* The node of the inode, if its file is that container: the number may be another's by now. */
static struct node *node_of_entry(struct server *sv, const struct journal_entry *e)
{
	struct node *n = state_node_of_inode(sv->state, e->dev, e->ino);

	return n && carries(sv, n->fd, e->uuid) ? n : NULL;
}

/* Also: which deletion the last handle of an unlinked image has to finish. */
static int note_left(void *arg, const struct journal_entry *e)
{
	struct left *left = arg;
	struct server *sv = left->sv;

	if (e->state != JOURNAL_UNLINKED && e->state != JOURNAL_DELETING &&
	    e->state != JOURNAL_USING)
		return 0;
	if (e->state == JOURNAL_UNLINKED && node_of_entry(sv, e))
		(void)imagetable_defer_deletion(sv->images, e->dev, e->ino, e->id);
	return add_id(left, e->id);
}

static uint64_t data_off_of(struct server *sv, struct node *n)
{
	struct peek peek;
	struct stat st;

	if (fstatat(n->fd, "", &st, AT_EMPTY_PATH) < 0 || node_peek(sv, n, &st, &peek))
		return 0;
	return peek.data_off;
}

/* The file by its node, or, if the kernel has forgotten that, by the name that was noted. -1. */
static int find_file(struct server *sv, const struct journal_entry *e,
		     const struct node *n)
{
	struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};

	if (n)
		return fcntl(n->fd, F_DUPFD_CLOEXEC, 3);
	return (int)syscall(SYS_openat2, sv->rootfd, e->path, &how, sizeof(how));
}

static void finish_unlinked(struct server *sv, const struct journal_entry *e,
			    struct node *n)
{
	if (n && imagetable_defer_deletion(sv->images, e->dev, e->ino, e->id))
		return;
	if (n)
		removal_finish(sv, e->id, node_reopen(sv, n, O_RDWR), data_off_of(sv, n));
	else
		deletion_gone(keyset_deletions(sv, e->id), e->id);
}

/* Its header was changed: that must last before its old secret goes. */
static vcf_err_t sync_changed(struct server *sv, int pathfd)
{
	auto_close int fd = pathfd < 0 ? -1 : node_reopen_fd(sv, pathfd, O_RDONLY);

	if (pathfd < 0)
		return 0;
	return fd < 0 ? fd : fdatasync(fd) < 0 ? -errno : 0;
}

/*
 * Its unlink was under way, which has been executed to its end by now, or it was about to have another
 * secret. A container that is not to be found is gone: the queue looks at the whole tree before it
 * destroys anything.
 */
static void settle_deleting(struct server *sv, const struct journal_entry *e,
			    struct node *n)
{
	auto_close int pathfd = find_file(sv, e, n);
	struct stat st;

	if (pathfd >= 0 && carries(sv, pathfd, e->uuid) &&
	    fstatat(pathfd, "", &st, AT_EMPTY_PATH) == 0 && st.st_nlink) {
		deletion_cancel(sv->deletions, e->id);
		return;
	}
	if (sync_changed(sv, pathfd))
		return; /* the next mount settles it */
	deletion_unlinked(sv->deletions, e->id);
	finish_unlinked(sv, e, n);
}

/* The header is complete, but the file may have lost its name while it was made. */
static void settle_carried(struct server *sv, const struct journal_entry *e, int pathfd)
{
	vcf_err_t err = removal_of_new(sv, pathfd, e->path, e->uuid);

	if (!err || err == -ESTALE)
		err = journal_set(sv->journal, e->id, JOURNAL_CLOSED, NULL, 0);
	if (err)
		log_err("%s: the journal cannot be written: %s", e->path, strerror(-err));
}

/*
 * A header was being written when the server died. Without it the secret is nobody's; the queue
 * looks at the whole tree before it destroys anything.
 */
static void settle_using(struct server *sv, const struct journal_entry *e,
			 const struct node *n)
{
	auto_close int pathfd = find_file(sv, e, n);

	if (keyset_is_site(sv, e))
		deletion_cancel(sv->deletions, e->id); /* of no file, and in use */
	else if (pathfd >= 0 && carries(sv, pathfd, e->uuid))
		settle_carried(sv, e, pathfd);
	else if (keyset_is_site(sv, e))
		deletion_cancel(sv->deletions,
				e->id); /* it is in use, and no container has it */
	else
		deletion_gone(keyset_deletions(sv, e->id), e->id);
}

static void settle_entry(struct server *sv, const struct journal_entry *e)
{
	struct node *n = node_of_entry(sv, e);

	if (e->state == JOURNAL_UNLINKED)
		finish_unlinked(sv, e, n);
	else if (e->state == JOURNAL_DELETING)
		settle_deleting(sv, e, n);
	else if (e->state == JOURNAL_USING)
		settle_using(sv, e, n);
}

static void settle_left(struct left *left)
{
	struct journal_entry e;

	for (size_t i = 0; i < left->cnt; i++) {
		if (journal_get(left->sv->journal, left->ids[i], &e) == 0)
			settle_entry(left->sv, &e);
	}
	free(left->ids);
}

/*
 * Resending
 */

static bool resend_wanted(void)
{
#if VCF_CRASH_POINTS
	return !getenv("VCF_NO_RESEND");
#else
	return true;
#endif
}

static void ask_again(struct server *sv)
{
	const struct fuse_out_header out = {.len = sizeof(out), .error = NOTIFY_RESEND};

	if (sv->stream || !resend_wanted())
		return;
	deferred_expect_resent(sv->deferred);
	if (write(sv->devfd, &out, sizeof(out)) < 0)
		deferred_resent_none(sv->deferred); /* a kernel before 6.9 */
	CRASHPOINT("resend-asked");
}

/* Of threads that this server has not: guests' bytes that nobody would lock or wipe. */
static void wipe_unused(struct server *sv)
{
	for (unsigned int i = sv->worker_cnt; i < SESSION_WORKERS_MAX; i++) {
		struct session_slot *slot = &sv->session->slots[i];

		if (slot->tid)
			explicit_bzero(session_buffer(sv->session, i),
				       SESSION_BUFFER_LEN);
		slot->tid = 0;
		slot->busy = 0;
		slot->waits = 0;
	}
}

/* Of requests that were not executed again. */
static void let_go(void *arg, struct handle *h, struct node *n)
{
	(void)arg;
	(void)n;
	nodelock_settle(h->fd);
}

vcf_err_t takeover_replay(struct server *sv)
{
	struct session_head *h = sv->session->head;
	struct left left = {.sv = sv};
	uint32_t replayed = h->replayed;
	int rc;

	deferred_hold(sv->deferred, true);
	rc = journal_each(sv->journal, note_left, &left);
	execute_all(sv);
	deferred_each_left(sv->deferred, execute_parked, sv);
	settle_left(&left);
	if (sv->cfg->shared)
		state_each_handle(sv->state, let_go, NULL);
	wipe_unused(sv);
	current_worker = NULL;
	nodelock_set_mark(NULL);
	sv->taking_over = false;
	CRASHPOINT("takeover-settled");
	ask_again(sv);
	deferred_hold(sv->deferred, false);
	if (rc)
		log_err("no memory for what the journal says: the next mount settles it");
	log_info(
		"generation %u took over: %u requests executed again, %zu wait for a key",
		h->generation, h->replayed - replayed, deferred_parked_cnt(sv->deferred));
	return 0;
}
