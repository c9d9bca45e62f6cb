/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "crypto/container.h"
#include "tests/crash/powercheck.h"
#include "util/io.h"

/* --- containers --- */

static vcf_err_t secret_of(struct check *c, const struct token *t,
			   const unsigned char *uuid, struct secret **out)
{
	const struct key *k = keys_find(&c->keys, t->key_id);
	auto_secret struct secret *s = NULL;
	vcf_err_t err;

	if (!k)
		return -ENOKEY;
	err = secret_new(&s);
	if (err)
		return err;
	memcpy(secret_bytes(s), k->bytes, SECRET_LEN);
	if (t->derived)
		return token_derive_secret(out, s, uuid);
	*out = STEAL_PTR(&s);
	return 0;
}

void write_content(int fd, const struct content *content, size_t pages)
{
	for (size_t i = 0; i < content->cnt && i < pages; i++)
		if (content->pages[i] && io_pwrite_full(fd, content->pages[i]->bytes,
							PAGE_LEN, (off_t)(i * PAGE_LEN)))
			die("write");
	if (ftruncate(fd, (off_t)content->size))
		die("ftruncate");
}

static vcf_err_t open_header(struct check *c, struct header *h,
			     const struct content *content, const char *name)
{
	auto_close int fd = memfd_create("replay", MFD_CLOEXEC);
	auto_container struct container *k = NULL;
	auto_secret struct secret *secret = NULL;
	vcf_err_t err;

	write_content(fd, content, CONTAINER_DATA_OFF / PAGE_LEN);
	err = container_load(&k, fd, name, NULL);
	if (err)
		return err;
	h->geom.data_off = container_subject(k)->data_off;
	h->geom.sector_len = container_subject(k)->sector_len;
	h->derived = container_token(k)->derived;
	snprintf(h->key_id, sizeof(h->key_id), "%s", container_token(k)->key_id);
	snprintf(h->label, sizeof(h->label), "%s", container_subject(k)->uuid_text);
	err = secret_of(c, container_token(k), container_subject(k)->uuid, &secret);
	if (!err)
		err = container_unlock(k, secret, name);
	return err ? err
		   : keytable_put(c->table, container_subject(k)->uuid,
				  container_token(k)->kcv, container_volume_key(k),
				  &h->ref);
}

static const struct header *header_of(struct check *c, const struct content *content,
				      const char *name)
{
	uint64_t hash = content_hash(content, CONTAINER_DATA_OFF) ^
			(content->size < CONTAINER_DATA_OFF ? content->size : ~0ull);
	struct header *h;

	for (size_t i = 0; i < c->header_cnt; i++)
		if (c->headers[i].hash == hash)
			return &c->headers[i];
	if (c->header_cnt == HEADERS_MAX)
		die("too many headers");
	h = &c->headers[c->header_cnt++];
	h->hash = hash;
	h->err = open_header(c, h, content, name);
	return h;
}

/* The plaintext; *bytes is the caller's. */
static vcf_err_t read_image(struct check *c, const struct content *content,
			    const struct header *h, unsigned char **bytes, uint64_t *plen)
{
	uint32_t s = h->geom.sector_len;
	vcf_err_t err = span_decode_size(&h->geom, content->size, plen);
	uint64_t sectors = err ? 0 : (*plen + s - 1) / s;
	unsigned char *p;

	if (err)
		return err;
	p = *bytes = malloc(sectors * s + 1);
	if (!p || xts_use(c->xts, c->table, h->ref))
		die("xts");
	content_read(content, p, h->geom.data_off, sectors * s);
	for (uint64_t k = 0; k < sectors; k++, p += s)
		if (!io_is_zero(p, s) && xts_decrypt(c->xts, p, p, s, s, k))
			die("xts");
	return 0;
}

/* --- files --- */

static void tell_versions(const struct file *f, size_t cut)
{
	for (size_t i = 0; i < f->cnt && f->versions[i].begin < cut; i++)
		printf("version %zu: from event %zu to %zu, size %llu, acknowledged at %zd\n",
		       i, f->versions[i].begin, f->versions[i].end,
		       (unsigned long long)f->versions[i].size,
		       (ssize_t)f->versions[i].acked);
}

void judge(struct check *c, const char *name, const struct file *f, size_t oldest,
	   const unsigned char *bytes, uint64_t size)
{
	uint64_t where;
	const char *why = model_judge(f, oldest, c->cut, bytes, size, &where);

	c->compared++;
	if (why && c->only)
		tell_versions(f, c->cut);
	if (why)
		violation(
			c,
			"%s (file %u, version %zu acknowledged): %s: size %llu, at %llu",
			name, f->id, oldest, why, (unsigned long long)size,
			(unsigned long long)where);
}

static void check_image(struct check *c, const char *name, const struct file *f,
			size_t oldest, const struct content *content, struct noted *noted)
{
	const struct header *h = header_of(c, content, name);
	unsigned char *bytes = NULL;
	const struct key *k;
	uint64_t plen = 0;
	vcf_err_t err = h->err;

	if (err == -ENODATA) {
		judge(c, name, f, oldest, (const unsigned char *)"", 0);
		return;
	}
	if (!err)
		err = read_image(c, content, h, &bytes, &plen);
	if (err) {
		violation(c, "%s: cannot be opened: %s (size %llu)", name, strerror(-err),
			  (unsigned long long)content->size);
		return;
	}
	noted_add(noted, h->key_id);
	noted_add(noted, h->label);
	k = keys_find(&c->keys, h->key_id);
	if (!k || !key_surely(k, c->cut))
		violation(c, "%s: its secret %s is destroyed", name, h->key_id);
	judge(c, name, f, oldest, bytes, plen);
	free(bytes);
}

static void check_plain(struct check *c, const char *name, const struct file *f,
			size_t oldest, const struct content *content)
{
	unsigned char *bytes = malloc(content->size + 1);

	if (!bytes)
		die("malloc");
	content_read(content, bytes, 0, content->size);
	judge(c, name, f, oldest, bytes, content->size);
	free(bytes);
}

/* --- names --- */

const struct object *folder_object(struct check *c, uint32_t id)
{
	const struct file *f = id ? model_file(&c->model, id) : NULL;

	if (!id)
		return c->disk.trees[TREE_BACK].root;
	return f && f->object != SIZE_MAX ? c->disk.objects[f->object] : NULL;
}

static const struct file *file_of(struct check *c, const struct object *o)
{
	size_t index = disk_index(&c->disk, o);

	for (size_t i = 0; i < c->model.file_cnt; i++)
		if (c->model.files[i].object == index)
			return &c->model.files[i];
	return NULL;
}

static const struct binding *binding_to(const struct check *c, const struct model_name *n,
					uint32_t id)
{
	size_t oldest = model_oldest_binding(n, c->cut);

	for (size_t k = oldest;
	     k < n->cnt && (k == oldest || n->bindings[k].begin < c->cut); k++)
		if (n->bindings[k].id == id)
			return &n->bindings[k];
	return NULL;
}

/* What it leads to now; NULL: nothing, or nothing that is allowed (said). */
const struct file *resolve(struct check *c, const struct model_name *n,
			   const struct object **found, const struct binding **binding)
{
	const struct object *folder = folder_object(c, n->folder);
	const struct file *f = NULL;

	*found = folder ? names_find(&c->o->names[TREE_BACK], folder, n->text) : NULL;
	if (*found)
		f = file_of(c, *found);
	if (*found && !f) {
		violation(c, "%s: leads to a file that nobody made", n->text);
		return NULL;
	}
	*binding = binding_to(c, n, f ? f->id : 0);
	if (!*binding) {
		violation(c, "%s: leads to file %u, which is neither old nor new",
			  n->text, f ? f->id : 0);
		return NULL;
	}
	return f;
}

size_t oldest_version(const struct check *c, const struct file *f,
		      const struct binding *b)
{
	size_t oldest = model_oldest_version(f, c->cut);

	return b->synced > oldest ? b->synced - 1 : oldest;
}

void check_names(struct check *c, struct noted *noted)
{
	for (size_t i = 0; i < c->model.name_cnt; i++) {
		const struct model_name *n = &c->model.names[i];
		const struct binding *b = NULL;
		const struct object *o;
		const struct file *f = resolve(c, n, &o, &b);
		const struct content *content;

		if (!f || o->kind != OBJECT_FILE)
			continue;
		content = c->o->contents[f->object];
		if (f->plain)
			check_plain(c, n->text, f, oldest_version(c, f, b), content);
		else
			check_image(c, n->text, f, oldest_version(c, f, b), content,
				    noted);
	}
}

static bool known(struct check *c, const struct name *name)
{
	for (size_t i = 0; i < c->model.name_cnt; i++)
		if (strcmp(c->model.names[i].text, name->text) == 0)
			return true;
	return false;
}

static void check_strangers(struct check *c)
{
	const struct names *n = &c->o->names[TREE_BACK];

	for (size_t i = 0; i < n->cnt; i++)
		if (!known(c, &n->list[i]))
			violation(c, "%s: nobody made this name", n->list[i].text);
}

/* --- secrets --- */

static const struct content *state_file(struct check *c, const char *text)
{
	const struct names *n = &c->o->names[TREE_STATE];

	for (size_t i = 0; i < n->cnt; i++)
		if (strcmp(n->list[i].text, text) == 0)
			return c->o->contents[disk_index(&c->disk, n->list[i].object)];
	return NULL;
}

void save_content(const char *path, const struct content *content)
{
	auto_close int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		die(path);
	write_content(fd, content, SIZE_MAX);
}

static void read_journal(struct check *c, struct noted *noted)
{
	const struct content *journal = state_file(c, "journal");
	const struct content *site = state_file(c, "site");
	char path[1100], text[256] = "";
	int err;

	snprintf(path, sizeof(path), "%s/journal", c->folder);
	if (journal) {
		save_content(path, journal);
		err = noted_journal(noted, path);
		if (err || noted->damaged)
			violation(c, "the journal is damaged: %s", strerror(-err));
	}
	if (site) {
		content_read(site, text, 0, site->size < 255 ? site->size : 255);
		noted_site(noted, text);
		if (!strchr(text, '\n'))
			violation(c, "the site file is torn");
	}
}

static void check_orphans(struct check *c, const struct noted *noted)
{
	for (size_t i = 0; i < c->keys.cnt; i++)
		if (key_perhaps(&c->keys.list[i], c->cut) &&
		    !noted_has(noted, c->keys.list[i].id))
			violation(c, "the secret %s is nobody's", c->keys.list[i].id);
}

/* --- one outcome, without a mount --- */

void check_outcome(struct check *c)
{
	struct noted noted = {0};

	check_names(c, &noted);
	check_strangers(c);
	read_journal(c, &noted);
	check_orphans(c, &noted);
	noted_free(&noted);
}
