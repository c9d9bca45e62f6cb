/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What orders threads behind ThreadSanitizer's back: the kernel. It asks for nothing on a handle
 * before the answer that made it, and releases it only after the answers to all that used it; so
 * whatever happens before an answer happens before the requests that follow from it. ThreadSanitizer
 * takes that from the device's descriptor as long as it has seen it made, which it has not in a
 * program that was executed for an upgrade.
 */
#ifndef VCF_UTIL_TSAN_H
#define VCF_UTIL_TSAN_H

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN_BUILD 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define TSAN_BUILD 1
#endif

#ifdef TSAN_BUILD
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#define TSAN_ACQUIRE(addr) __tsan_acquire((void *)(addr))
#define TSAN_RELEASE(addr) __tsan_release((void *)(addr))
#else
#define TSAN_ACQUIRE(addr) ((void)(addr))
#define TSAN_RELEASE(addr) ((void)(addr))
#endif

#endif
