/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How it is made: the rules of libseccomp, as one binary tree. Calls without a condition the kernel
 * remembers as allowed (since 5.11) and runs no filter for them. The processor's guards against
 * speculation across such filters, which kernels before 5.16 switch on with them, are not asked for:
 * nothing here runs a stranger's code, and each call would cost more.
 */
#include "util/sysfilter.h"

#include <errno.h>
#include <seccomp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <linux/fs.h>
#include <sched.h>

#include "build-config.h"
#include "util/sysfilter_calls.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||               \
	__has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum { CALLS_MAX = 512, NAME_LEN = 32 };
#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* asm-generic/siginfo.h, which the C library's own excludes */
#endif
#define CALL_TEXT "system call "
#define REFUSED_TEXT " is refused (seccomp)"

static enum sysfilter_mode the_mode = SYSFILTER_KILL;
static const char *const words[] = {"kill", "log", "off"};

/* For the handler, which must not ask libseccomp: it allocates. */
static char names[CALLS_MAX][NAME_LEN];
static bool in_force;

void sysfilter_set_mode(enum sysfilter_mode mode)
{
	the_mode = mode;
}

void sysfilter_take_mode(void)
{
	const char *word = getenv(SYSFILTER_VARIABLE);

	the_mode = SYSFILTER_KILL;
	for (int i = SYSFILTER_KILL; word && i <= SYSFILTER_OFF; i++) {
		if (strcmp(word, words[i]) == 0)
			the_mode = (enum sysfilter_mode)i;
	}
}

const char *sysfilter_variable(void)
{
	return the_mode == SYSFILTER_KILL ? NULL : words[the_mode];
}

bool sysfilter_is_off(void)
{
	return SANITIZED || the_mode == SYSFILTER_OFF;
}

bool sysfilter_in_force(void)
{
	return in_force;
}

/* --- what a refusal says --- */

static void learn_names(void)
{
	for (int nr = 0; nr < CALLS_MAX; nr++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, nr);

		if (name)
			snprintf(names[nr], NAME_LEN, "%s", name);
		free(name);
	}
}

static char *put(char *dst, const char *text)
{
	while (*text)
		*dst++ = *text++;
	*dst = '\0';
	return dst;
}

static char *put_number(char *dst, unsigned int v)
{
	char digits[12];
	char *p = digits + sizeof(digits) - 1;

	*p = '\0';
	do {
		*--p = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	return put(dst, p);
}

bool sysfilter_describe(char dst[SYSFILTER_TEXT_MAX], const siginfo_t *si)
{
	int nr = si->si_syscall;

	if (si->si_signo != SIGSYS || si->si_code != SYS_SECCOMP)
		return false;
	dst = put_number(put(dst, CALL_TEXT), (unsigned int)nr);
	dst = put(dst, " (");
	dst = put(dst, nr >= 0 && nr < CALLS_MAX && *names[nr] ? names[nr] : "unknown");
	put(put(dst, ")"), REFUSED_TEXT);
	return true;
}

/*
 * Name services and the C library ask these two many a thing. What is not allowed is answered as by a
 * kernel that does not know it.
 */
bool sysfilter_answer(const siginfo_t *si, void *context)
{
	ucontext_t *uc = context;
	long result;

	if (si->si_signo != SIGSYS || si->si_code != SYS_SECCOMP)
		return false;
	if (si->si_syscall == SYS_prctl)
		result = -EINVAL;
	else if (si->si_syscall == SYS_ioctl)
		result = -ENOTTY;
	else
		return false;
#if defined(__x86_64__)
	uc->uc_mcontext.gregs[REG_RAX] = result;
	return true;
#elif defined(__aarch64__)
	uc->uc_mcontext.regs[0] = (unsigned long long)result;
	return true;
#else
	(void)uc;
	(void)result;
	return false;
#endif
}

/* --- making one --- */

struct filter {
	scmp_filter_ctx ctx;
	uint32_t
		other; /* what befalls calls of no rule; a rule that says the same is refused */
	vcf_err_t err; /* the first one */
};

static void note(struct filter *f, int rc)
{
	if (rc < 0 && !f->err)
		f->err = rc;
}

/* What would be refused otherwise is logged in that mode. */
static uint32_t refusal(uint32_t action)
{
	return the_mode == SYSFILTER_LOG ? SCMP_ACT_LOG : action;
}

static void add(struct filter *f, uint32_t action, const char *name)
{
	int nr = seccomp_syscall_resolve_name(name);

	if (nr != __NR_SCMP_ERROR && action != f->other)
		note(f, seccomp_rule_add(f->ctx, action, nr, 0));
}

static void add_if(struct filter *f, uint32_t action, const char *name,
		   struct scmp_arg_cmp cmp)
{
	int nr = seccomp_syscall_resolve_name(name);

	if (nr != __NR_SCMP_ERROR && action != f->other)
		note(f, seccomp_rule_add_array(f->ctx, action, nr, 1, &cmp));
}

static void add_all(struct filter *f, uint32_t action, const char *const *list)
{
	for (; *list; list++)
		add(f, action, *list);
}

static vcf_err_t begin(struct filter *f, uint32_t other, uint32_t bad_arch)
{
	*f = (struct filter){.ctx = seccomp_init(other), .other = other};
	if (!f->ctx)
		return -ENOMEM;
	note(f, seccomp_attr_set(f->ctx, SCMP_FLTATR_ACT_BADARCH, bad_arch));
	note(f, seccomp_attr_set(f->ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2));
	if (seccomp_api_get() >= 4)
		note(f, seccomp_attr_set(f->ctx, SCMP_FLTATR_CTL_SSB, 1));
	return f->err;
}

static vcf_err_t finish(struct filter *f)
{
	if (!f->err)
		f->err = seccomp_load(f->ctx);
	seccomp_release(f->ctx);
	return f->err;
}

/* Nobody's but our own; -EPERM for one who tries, as without the capability. */
static void allow_signals(struct filter *f)
{
	static const char *const kills[] = {"kill", "tgkill"};
	scmp_datum_t self = (scmp_datum_t)getpid();

	if (VCF_CRASH_POINTS) /* of which some take the keeper along */
		add(f, SCMP_ACT_ALLOW, "kill");
	for (int i = VCF_CRASH_POINTS; i < 2; i++) {
		add_if(f, SCMP_ACT_ALLOW, kills[i], SCMP_A0_32(SCMP_CMP_EQ, self));
		add_if(f, refusal(SCMP_ACT_ERRNO(EPERM)), kills[i],
		       SCMP_A0_32(SCMP_CMP_NE, self));
	}
}

/*
 * Threads, but no processes. What clone3(2) is to do lies in memory, where no filter looks: as if the
 * kernel had none of it, so that the C library uses clone(2).
 */
static void allow_threads(struct filter *f)
{
	add_if(f, SCMP_ACT_ALLOW, "clone",
	       SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	add(f, SCMP_ACT_ERRNO(ENOSYS), "clone3");
}

/*
 * A name service may try any: as if the kernel had no other families. The lists of a filter have no
 * "none of these".
 */
static void allow_families(struct filter *f, bool local, bool network)
{
	const uint32_t none = refusal(SCMP_ACT_ERRNO(EAFNOSUPPORT));

	for (scmp_datum_t family = 0; family <= AF_NETLINK; family++) {
		bool net =
			family == AF_INET || family == AF_INET6 || family == AF_NETLINK;
		bool may = (local && family == AF_UNIX) || (network && net);

		add_if(f, may ? SCMP_ACT_ALLOW : none, "socket",
		       SCMP_A0_32(SCMP_CMP_EQ, family));
	}
	add_if(f, none, "socket", SCMP_A0_32(SCMP_CMP_GT, AF_NETLINK));
}

static void allow_requests(struct filter *f, const unsigned long *requests)
{
	for (; *requests; requests++)
		add_if(f, SCMP_ACT_ALLOW, "ioctl",
		       SCMP_A1_32(SCMP_CMP_EQ, (uint32_t)*requests));
}

static void allow_common(struct filter *f, bool local, bool network)
{
	/* FIONBIO, FIONREAD: libcurl and resolvers; TCGETS: isatty(3), asked of a log. */
	static const unsigned long requests[] = {FIONBIO, FIONREAD, TCGETS, 0};

	add_all(f, SCMP_ACT_ALLOW, calls_common);
	allow_signals(f);
	allow_threads(f);
	allow_families(f, local, network);
	allow_requests(f, requests);
	add_if(f, SCMP_ACT_ALLOW, "prlimit64", SCMP_A0_32(SCMP_CMP_EQ, 0));
	add_if(f, SCMP_ACT_ALLOW, "prctl", SCMP_A0_32(SCMP_CMP_EQ, PR_SET_NAME));
	add_if(f, SCMP_ACT_ALLOW, "prctl", SCMP_A0_32(SCMP_CMP_EQ, PR_GET_NAME));
	add_if(f, SCMP_ACT_ALLOW, "prctl", SCMP_A0_32(SCMP_CMP_EQ, PR_CAPBSET_READ));
}

/* Goes up when calls_refused, or what is done about them, changes. */
enum { KEEPER_RULES = 1, MODE_BITS = 4 };

uint32_t sysfilter_keeper_rules(void)
{
	return sysfilter_is_off()
		       ? 0
		       : (uint32_t)KEEPER_RULES << MODE_BITS | (uint32_t)the_mode;
}

vcf_err_t sysfilter_keeper(void)
{
	struct filter f;
	vcf_err_t err;

	if (sysfilter_is_off())
		return 0;
	err = begin(&f, SCMP_ACT_ALLOW, refusal(SCMP_ACT_ERRNO(ENOSYS)));
	if (err)
		return err;
	add_all(&f, refusal(SCMP_ACT_ERRNO(EPERM)), calls_refused);
	return finish(&f);
}

vcf_err_t sysfilter_server(void)
{
	/* libcryptsetup asks what it has been given for a disk; devices. */
	static const unsigned long requests[] = {
		BLKALIGNOFF, BLKGETSIZE64, BLKIOMIN,	  BLKIOOPT,  BLKPBSZGET,
		BLKRAGET,    BLKROGET,	   BLKROTATIONAL, BLKSSZGET, 0};
	struct filter f;
	vcf_err_t err;

	if (sysfilter_is_off())
		return 0;
	learn_names();
	err = begin(&f, refusal(SCMP_ACT_TRAP), refusal(SCMP_ACT_KILL_PROCESS));
	if (err)
		return err;
	allow_common(&f, true, false);
	add_all(&f, SCMP_ACT_ALLOW, calls_server);
	allow_requests(&f, requests);
	err = finish(&f);
	in_force = !err && the_mode == SYSFILTER_KILL;
	return err;
}

/* --- helpers --- */

/* Said on stderr, which is the log; once, whatever other threads do meanwhile. */
static void on_refused(int sig, siginfo_t *si, void *context)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;
	char text[SYSFILTER_TEXT_MAX + 1];

	if (sysfilter_answer(si, context))
		return;
	if (!atomic_flag_test_and_set(&said) && sysfilter_describe(text, si)) {
		size_t len = strlen(text);

		text[len++] = '\n';
		if (write(STDERR_FILENO, text, len) < 0)
			len = 0; /* nobody listens */
	}
	signal(sig, SIG_DFL);
	raise(sig);
}

vcf_err_t sysfilter_helper(bool network)
{
	const struct sigaction sa = {.sa_sigaction = on_refused, .sa_flags = SA_SIGINFO};
	struct filter f;
	vcf_err_t err;

	if (sysfilter_is_off())
		return 0;
	learn_names();
	sigaction(SIGSYS, &sa, NULL);
	err = begin(&f, refusal(SCMP_ACT_TRAP), refusal(SCMP_ACT_KILL_PROCESS));
	if (err)
		return err;
	/* Local sockets are for resolvers, and for the one log-in that several share. */
	allow_common(&f, network, network);
	return finish(&f);
}
