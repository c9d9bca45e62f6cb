/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Linked into a helper, it makes free() and realloc() wipe, for the whole process: requests
 * and replies go through buffers of libcurl, the TLS library and json-c, which free them as
 * they are. glibc allows a program to bring its own (glibc manual, "Replacing malloc"); these
 * two rest on glibc's __libc_free and __libc_malloc. Sanitizers bring theirs: left out there.
 */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||               \
	__has_feature(memory_sanitizer)
#define VCF_NO_WIPEFREE
#endif
#endif
#else
#define VCF_NO_WIPEFREE
#endif

#ifndef VCF_NO_WIPEFREE
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

extern void __libc_free(void *p);
extern void *__libc_malloc(size_t len);

void free(void *p)
{
	if (!p)
		return;
	explicit_bzero(p, malloc_usable_size(p));
	__libc_free(p);
}

/* Never in place: what a shorter block leaves behind could not be reached later. */
void *realloc(void *p, size_t len)
{
	size_t old = p ? malloc_usable_size(p) : 0;
	void *q;

	if (p && len == 0) {
		free(p);
		return NULL;
	}
	if (p && len <= old && len > old / 2)
		return p;
	q = __libc_malloc(len);
	if (!q || !p)
		return q;
	memcpy(q, p, old < len ? old : len);
	free(p);
	return q;
}
#else
typedef int vcf_no_wipefree; /* an empty file is no C */
#endif
