/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The status socket: who connects reads one JSON object and the end of the stream. In the
 * runtime directory, mode 0600.
 */
#ifndef VCF_FS_STATUS_H
#define VCF_FS_STATUS_H

#include <json-c/json.h>

#include "fs/server.h"
#include "util/err.h"

struct session;
struct status_socket;

NODISCARD vcf_err_t status_listen(struct status_socket **out, struct server *sv,
				  const struct session *session);
void status_close(struct status_socket *s);

enum { STATUS_PATIENCE_S = 10 };

/*
 * The client's side: reads the object of one socket. The caller puts it. patience_s: for each read and
 * write. -ENOENT, -ECONNREFUSED.
 */
NODISCARD vcf_err_t status_read(struct json_object **out, const char *socket_path,
				unsigned int patience_s);

#endif
