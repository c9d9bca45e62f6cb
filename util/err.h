/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The error convention of the whole program: a function returns vcf_err_t, 0 or a
 * negative errno; one that counts bytes returns ssize_t, the count or a negative errno.
 * libc's "-1 and errno" is converted on the line after the call.
 */
#ifndef VCF_UTIL_ERR_H
#define VCF_UTIL_ERR_H

typedef int vcf_err_t;

#define NODISCARD __attribute__((warn_unused_result))

#endif
