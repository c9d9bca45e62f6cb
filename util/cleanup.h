/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scope-bound cleanup. An auto_ variable is initialised where it is declared; ownership
 * leaves the scope only through STEAL_PTR() or STEAL_FD(). Cleanups keep errno and accept
 * NULL and -1.
 */
#ifndef VCF_UTIL_CLEANUP_H
#define VCF_UTIL_CLEANUP_H

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free(void *pp)
{
	int saved = errno;

	free(*(void **)pp);
	errno = saved;
}

static inline void cleanup_close(const int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

#define auto_free __attribute__((cleanup(cleanup_free)))
#define auto_close __attribute__((cleanup(cleanup_close)))

/*
 * DEFINE_AUTO(image, struct image *, image_free) makes cleanup_image(), for
 * "#define auto_image __attribute__((cleanup(cleanup_image)))".
 */
#define DEFINE_AUTO(name, type, free_fn)                                                 \
	static inline void cleanup_##name(type *pp)                                      \
	{                                                                                \
		int saved = errno;                                                       \
                                                                                         \
		if (*pp)                                                                 \
			free_fn(*pp);                                                    \
		errno = saved;                                                           \
	}

#define STEAL_PTR(pp)                                                                    \
	({                                                                               \
		__typeof__(pp) steal_pp = (pp);                                          \
		__typeof__(*steal_pp) steal_p = *steal_pp;                               \
		*steal_pp = NULL;                                                        \
		steal_p;                                                                 \
	})

static inline int steal_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}
#define STEAL_FD(fdp) steal_fd(fdp)

#endif
