/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/crash/powermodel.h"

#include <stdio.h>

static void *more(void *list, size_t cnt, size_t *room, size_t len)
{
	if (cnt < *room)
		return list;
	*room = *room ? *room * 2 : 16;
	list = reallocarray(list, *room, len);
	if (!list)
		abort();
	return list;
}

struct file *model_file(struct model *m, uint32_t id)
{
	for (size_t i = 0; i < m->file_cnt; i++)
		if (m->files[i].id == id)
			return &m->files[i];
	return NULL;
}

static struct file *need_file(struct model *m, uint32_t id)
{
	struct file *f = model_file(m, id);

	if (!f) {
		fprintf(stderr, "powercheck: the workload names file %u, unmade\n", id);
		exit(2);
	}
	return f;
}

static struct model_name *find_name(struct model *m, uint32_t folder, const char *text)
{
	for (size_t i = 0; i < m->name_cnt; i++)
		if (m->names[i].folder == folder && strcmp(m->names[i].text, text) == 0)
			return &m->names[i];
	m->names = more(m->names, m->name_cnt, &m->name_room, sizeof(*m->names));
	m->names[m->name_cnt] = (struct model_name){.folder = folder, .text = text};
	return &m->names[m->name_cnt++];
}

static struct version *add_version(struct file *f, size_t begin, uint64_t size)
{
	struct version *v, *last;

	f->versions = more(f->versions, f->cnt, &f->room, sizeof(*f->versions));
	v = &f->versions[f->cnt++];
	*v = (struct version){
		.begin = begin, .end = SIZE_MAX, .acked = SIZE_MAX, .size = size};
	v->bytes = calloc(1, size + 1);
	if (!v->bytes)
		abort();
	if (f->cnt < 2)
		return v;
	last = v - 1;
	memcpy(v->bytes, last->bytes, last->size < size ? last->size : size);
	return v;
}

static struct binding *bind(struct model *m, uint32_t folder, const char *text,
			    size_t begin, uint32_t id)
{
	struct model_name *n = find_name(m, folder, text);
	struct binding first = {.acked = 0};

	n->bindings = more(n->bindings, n->cnt, &n->room, sizeof(*n->bindings));
	if (!n->cnt)
		n->bindings[n->cnt++] = first;
	n->bindings = more(n->bindings, n->cnt, &n->room, sizeof(*n->bindings));
	n->bindings[n->cnt] = (struct binding){
		.begin = begin, .end = SIZE_MAX, .acked = SIZE_MAX, .id = id};
	return &n->bindings[n->cnt++];
}

/* --- operations --- */

static void new_file(struct model *m, const struct work_op *op, size_t at)
{
	struct file *f;

	m->files = more(m->files, m->file_cnt, &m->file_room, sizeof(*m->files));
	f = &m->files[m->file_cnt++];
	*f = (struct file){
		.id = op->id, .object = SIZE_MAX, .plain = op->len == WORK_PLAIN};
	add_version(f, at, 0)->end = at;
	f->versions[0].acked = at;
	bind(m, op->folder, op->name, at, op->id);
}

static void set_via(struct version *v, uint64_t unit, uint64_t from, uint64_t to)
{
	v->via_unit = unit;
	v->via_from = from;
	v->via_to = to;
}

static void new_bytes(struct file *f, const struct work_op *op, size_t at)
{
	uint64_t end = op->off + op->len, size = f->versions[f->cnt - 1].size;
	uint64_t bigger = end > size ? end : size;
	struct version *v;

	switch (op->kind) {
	case WORK_WRITE:
		v = add_version(f, at, bigger);
		work_fill(v->bytes + op->off, op->len, op->off, op->seed);
		if (end > size)
			set_via(v, PAGE_LEN, op->off > size ? op->off : size, end);
		break;
	case WORK_QUEUED:
		v = add_version(f, at, size);
		work_fill(v->bytes + op->off, op->len, op->off, op->seed);
		v->off = op->off;
		v->len = op->len;
		break;
	case WORK_TRUNCATE:
		v = add_version(f, at, op->len);
		if (op->len < size)
			set_via(v, 512, op->len, (op->len + 4095) / 4096 * 4096);
		break;
	case WORK_PUNCH:
		v = add_version(f, at, size);
		if (op->off < size)
			memset(v->bytes + op->off, 0,
			       (end < size ? end : size) - op->off);
		break;
	case WORK_ZERO:
		v = add_version(f, at, bigger);
		memset(v->bytes + op->off, 0, op->len);
		break;
	default:
		add_version(f, at, op->kind == WORK_ALLOC ? bigger : size);
	}
	f->ever_written = f->ever_written || f->versions[f->cnt - 1].size;
}

/* `at`: the position of BEGIN. */
static void begin(struct model *m, const struct work_op *op, size_t at)
{
	const struct model_name *to;
	struct binding *b;
	struct file *f, *old;

	switch (op->kind) {
	case WORK_CREATE:
	case WORK_MKDIR:
		new_file(m, op, at);
		break;
	case WORK_FSYNC:
	case WORK_FDATASYNC:
	case WORK_FSYNC_FOLDER:
		break;
	case WORK_UNLINK:
		bind(m, op->folder, op->name, at, 0);
		break;
	case WORK_RENAME:
		f = need_file(m, op->id);
		to = find_name(m, op->folder2, op->name2);
		old = to->cnt ? model_file(m, to->bindings[to->cnt - 1].id) : NULL;
		bind(m, op->folder, op->name, at, 0);
		b = bind(m, op->folder2, op->name2, at, op->id);
		/* the server syncs a file that replaces a container */
		if (old && !old->plain && old->ever_written)
			b->synced = f->cnt;
		break;
	default:
		new_bytes(need_file(m, op->id), op, at);
	}
}

/* --- outcomes --- */

static void ack_file(struct file *f, size_t from, size_t at)
{
	for (size_t i = 0; i < f->cnt; i++)
		if (f->versions[i].end < from && f->versions[i].acked > at)
			f->versions[i].acked = at;
}

/* The change number k of a name gave it to the file (or folder), or took it from there. */
static bool is_about(const struct model_name *n, size_t k, uint32_t id)
{
	const struct binding *b = &n->bindings[k];

	return id && (b->id == id || (!b->id && b[-1].id == id));
}

/* Names in the folder, or that lead, or led, to the file. Up to `from`. */
static void ack_names(struct model *m, bool folder, uint32_t id, size_t from, size_t at)
{
	for (size_t i = 0; i < m->name_cnt; i++) {
		struct model_name *n = &m->names[i];
		size_t last = 0;

		for (size_t k = 1; k < n->cnt; k++)
			if (n->bindings[k].end < from &&
			    ((folder && n->folder == id) || is_about(n, k, id)))
				last = k;
		for (size_t k = 1; k <= last; k++)
			if (n->bindings[k].acked > at)
				n->bindings[k].acked = at;
	}
}

static void end_binding(struct model *m, uint32_t folder, const char *text, size_t from,
			size_t at)
{
	struct model_name *n = find_name(m, folder, text);

	for (size_t k = 1; k < n->cnt; k++)
		if (n->bindings[k].begin == from)
			n->bindings[k].end = at;
}

static void end_version(struct file *f, size_t from, size_t at)
{
	for (size_t k = f->cnt; k-- > 0;) {
		if (f->versions[k].begin == from) {
			f->versions[k].end = at;
			return;
		}
	}
}

static void end(struct model *m, const struct disk *d, const struct work_op *op,
		size_t from, size_t at)
{
	const struct record *r = d->events[at];
	struct file *f = op->kind == WORK_FSYNC_FOLDER ? NULL : model_file(m, op->id);

	if (r->value) { /* it changed nothing */
		f->versions[f->cnt - 1].end = at;
		free(f->versions[--f->cnt].bytes);
		return;
	}
	switch (op->kind) {
	case WORK_CREATE:
	case WORK_MKDIR:
		f->object = d->object_of[at];
		end_binding(m, op->folder, op->name, from, at);
		break;
	case WORK_UNLINK:
		end_binding(m, op->folder, op->name, from, at);
		break;
	case WORK_RENAME:
		end_binding(m, op->folder, op->name, from, at);
		end_binding(m, op->folder2, op->name2, from, at);
		break;
	case WORK_FSYNC:
		ack_names(m, false, op->id, from, at);
		__attribute__((fallthrough));
	case WORK_FDATASYNC:
		ack_file(f, from, at);
		m->acks++;
		break;
	case WORK_FSYNC_FOLDER:
		ack_names(m, true, op->folder, from, at);
		m->acks++;
		break;
	default:
		end_version(f, from, at);
	}
}

static bool same_op(const struct record *a, const struct record *b)
{
	return a->kind == RECORD_BEGIN && memcmp(a->data, b->data, b->data_len) == 0;
}

void model_load(struct model *m, const struct disk *d)
{
	*m = (struct model){0};
	for (size_t i = 0; i < d->event_cnt; i++) {
		const struct record *r = d->events[i];
		const struct work_op *op = (const void *)r->data;
		size_t from = i;

		if (r->kind == RECORD_BEGIN)
			begin(m, op, i);
		if (r->kind != RECORD_END)
			continue;
		while (from && !same_op(d->events[from], r))
			from--;
		end(m, d, op, from, i);
	}
}

/* --- judging --- */

size_t model_oldest_binding(const struct model_name *n, size_t cut)
{
	size_t oldest = 0;

	for (size_t k = 1; k < n->cnt; k++)
		if (n->bindings[k].acked < cut)
			oldest = k;
	return oldest;
}

size_t model_oldest_version(const struct file *f, size_t cut)
{
	size_t oldest = 0;

	while (oldest + 1 < f->cnt && f->versions[oldest + 1].acked < cut)
		oldest++;
	return oldest;
}

static bool begun(const struct file *f, size_t k, size_t cut)
{
	return k < f->cnt && f->versions[k].begin < cut;
}

static bool size_allowed(const struct file *f, size_t oldest, size_t cut, uint64_t size)
{
	for (size_t k = oldest; k == oldest || begun(f, k, cut); k++) {
		const struct version *v = &f->versions[k];

		if (v->size == size)
			return true;
		if (k > oldest && v->via_unit && size > v->via_from &&
		    size <= v->via_to && size % v->via_unit == 0)
			return true;
	}
	return false;
}

/* Of those that were under way at once a later one may be acknowledged and an earlier one not. */
static size_t oldest_at(const struct file *f, size_t oldest, size_t cut, uint64_t at)
{
	for (size_t k = oldest + 1; begun(f, k, cut); k++) {
		const struct version *v = &f->versions[k];

		if (v->acked < cut && at - v->off < v->len)
			oldest = k;
	}
	return oldest;
}

static bool byte_allowed(const struct file *f, size_t oldest, size_t cut, uint64_t at,
			 unsigned char byte)
{
	oldest = oldest_at(f, oldest, cut, at);
	for (size_t k = oldest; k == oldest || begun(f, k, cut); k++) {
		const struct version *v = &f->versions[k];

		if (at < v->size ? v->bytes[at] == byte : byte == 0)
			return true;
	}
	return false;
}

static bool any_acked_later(const struct file *f, size_t oldest, size_t cut)
{
	for (size_t k = oldest + 1; begun(f, k, cut); k++)
		if (f->versions[k].acked < cut)
			return true;
	return false;
}

const char *model_judge(const struct file *f, size_t oldest, size_t cut,
			const unsigned char *bytes, uint64_t size, uint64_t *where)
{
	const struct version *v = &f->versions[oldest];

	*where = size;
	if (!size_allowed(f, oldest, cut, size))
		return "its size is neither old nor new";
	if (v->size >= size && memcmp(bytes, v->bytes, size) == 0 &&
	    !any_acked_later(f, oldest, cut))
		return NULL;
	for (*where = 0; *where < size; ++*where)
		if (!byte_allowed(f, oldest, cut, *where, bytes[*where]))
			return "a byte is neither old nor new";
	return NULL;
}
