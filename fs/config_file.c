/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * INI files, split by inih. It gives its handler no line number, cuts long lines in
 * silence and takes an indented line for the rest of the value before it. So it gets its
 * lines from a reader that counts them and passes on only those that it cannot
 * misunderstand.
 */
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "crypto/secret.h"
#include "fs/config.h"
#include "util/log.h"

enum {
	SECTION_NAME_MAX = 49, /* inih cuts longer ones in silence */
	LINE_ROOM = 1024,
};

struct reader {
	struct config *c;
	const char *path;
	FILE *file;
	char *line; /* getline's */
	size_t room;
	unsigned int line_no;
	unsigned int fault_cnt;
	vcf_err_t err;	      /* other than a fault of the text */
	unsigned int *set_at; /* line of each option of the table, 0: not set here */
	unsigned int helper_set_cnt;
	struct {
		char *section, *name;
		unsigned int line_no;
	} * helper_set;		  /* the same for the helpers' */
	unsigned int secret_line; /* a line that holds a secret, 0: none */
};

static void fault(struct reader *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void fault(struct reader *r, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_err("%s:%u: %s", r->path, r->line_no, text);
	r->fault_cnt++;
}

/* --- lines ------------------------------------------------------------------------- */

static bool is_comment(const char *text)
{
	return *text == '\0' || *text == ';' || *text == '#';
}

static const char *skip_blanks(const char *text)
{
	return text + strspn(text, " \t\r\n\v\f");
}

/* The text up to a comment that follows a blank. */
static size_t useful_len(const char *text)
{
	size_t i = 0;

	while (text[i] && !(text[i] == ';' && i && strchr(" \t", text[i - 1])))
		i++;
	return i;
}

static const char *section_fault(const char *text)
{
	size_t len = strcspn(text, "]");

	if (!text[len])
		return "a section's name must end with ']'";
	if (len - 1 > SECTION_NAME_MAX)
		return "the section's name is too long";
	if (!is_comment(skip_blanks(text + len + 1)))
		return "there is text behind the section's ']'";
	return NULL;
}

/* What is wrong with a line, or NULL. */
static const char *line_fault(const char *text)
{
	size_t len = useful_len(text);

	if (is_comment(skip_blanks(text)))
		return NULL;
	if (skip_blanks(text) != text)
		return "the line starts with a blank (values cannot go over several "
		       "lines)";
	if (*text == '[')
		return section_fault(text);
	if (!memchr(text, '=', len))
		return "the line is neither [section] nor name = value";
	if (memchr(text, ':', strcspn(text, "=")))
		return "there is a ':' in the option's name";
	return NULL;
}

/* An ini_reader: the next line, or an empty one in place of a faulty one. */
static char *next_line(char *dst, int room, void *arg)
{
	struct reader *r = arg;
	ssize_t len = getline(&r->line, &r->room, r->file);
	char *text = r->line;
	const char *why;

	if (len < 0)
		return NULL;
	r->line_no++;
	if (r->line_no == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3;
		len -= 3;
	}
	if (strlen(text) != (size_t)len)
		why = "the line holds a NUL byte";
	else if (len + 1 > room - 1 && !is_comment(skip_blanks(text)))
		why = "the line is too long";
	else
		why = line_fault(text);
	if (why)
		fault(r, "%s", why);
	/* Comments may be of any length; inih need not see them. */
	snprintf(dst, (size_t)room, "%s", why || is_comment(text) ? "\n" : text);
	return dst;
}

/* --- options ----------------------------------------------------------------------- */

/* Where this file has set the option before; 0: not yet. Remembers the line. */
static unsigned int note_option(struct reader *r, const struct config_option *o)
{
	unsigned int *at = &r->set_at[o - config_options];
	unsigned int before = *at;

	*at = r->line_no;
	return o->type == CONFIG_RULE || o->type == CONFIG_SERVICE_RULE ? 0 : before;
}

static unsigned int note_helper_option(struct reader *r, const char *section,
				       const char *name)
{
	void *more;

	for (unsigned int i = 0; i < r->helper_set_cnt; i++) {
		if (strcmp(r->helper_set[i].section, section) == 0 &&
		    strcmp(r->helper_set[i].name, name) == 0)
			return r->helper_set[i].line_no;
	}
	more = reallocarray(r->helper_set, r->helper_set_cnt + 1,
			    sizeof(r->helper_set[0]));
	if (!more) {
		r->err = -ENOMEM;
		return 0;
	}
	r->helper_set = more;
	r->helper_set[r->helper_set_cnt].section = strdup(section);
	r->helper_set[r->helper_set_cnt].name = strdup(name);
	r->helper_set[r->helper_set_cnt].line_no = r->line_no;
	if (!r->helper_set[r->helper_set_cnt].section ||
	    !r->helper_set[r->helper_set_cnt].name)
		r->err = -ENOMEM;
	r->helper_set_cnt++;
	return 0;
}

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text);
	size_t end_len = strlen(end);

	return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* True if the option's value is a secret itself, not the name of a file with one. */
static bool is_secret(const char *section, const char *name)
{
	return !config_section_known(section) &&
	       (strcmp(section, "static") == 0 || ends_with(name, "secret") ||
		ends_with(name, "password") || ends_with(name, "token"));
}

/* An ini_handler; always "success", so that inih goes on and all faults are found. */
static int take_option(void *arg, const char *section, const char *name,
		       const char *value)
{
	struct reader *r = arg;
	const struct config_option *o = config_find(section, name);
	unsigned int before;
	char where[512];
	vcf_err_t err;

	if (!*section) {
		fault(r, "option \"%s\" stands before the first [section]", name);
		return 1;
	}
	before = o ? note_option(r, o) : note_helper_option(r, section, name);
	if (before) {
		fault(r, "option \"%s\" in [%s] is set in line %u already", name, section,
		      before);
		return 1;
	}
	if (is_secret(section, name))
		r->secret_line = r->line_no;
	snprintf(where, sizeof(where), "%s:%u", r->path, r->line_no);
	err = config_assign(r->c, section, name, value, where);
	if (err == -EINVAL)
		r->fault_cnt++;
	else if (err)
		r->err = err;
	return 1;
}

/* --- files ------------------------------------------------------------------------- */

static vcf_err_t check_mode(const struct reader *r)
{
	struct stat st;

	if (fstat(fileno(r->file), &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	if (st.st_mode & S_IWOTH) {
		log_err("%s: anyone may write this file; chmod o-w %s", r->path, r->path);
		return -EINVAL;
	}
	if (r->secret_line && (st.st_mode & 077)) {
		log_err("%s:%u: others may read the secret in this file; chmod 600 %s",
			r->path, r->secret_line, r->path);
		return -EINVAL;
	}
	return 0;
}

static vcf_err_t read_lines(struct reader *r)
{
	int rc = ini_parse_stream(next_line, r, take_option, r);

	if (ferror(r->file))
		r->err = -EIO;
	if (rc < 0)
		r->err = -ENOMEM;
	if (rc > 0 && !r->fault_cnt)
		log_err("%s:%d: cannot be understood", r->path, rc);
	if (r->err)
		return r->err;
	return rc > 0 || r->fault_cnt ? -EINVAL : 0;
}

static vcf_err_t reader_init(struct reader *r, char *buf, size_t buf_len)
{
	r->set_at = calloc(config_option_cnt, sizeof(*r->set_at));
	/* Large enough that getline() need not move a line with a secret. */
	r->line = malloc(LINE_ROOM);
	if (!r->set_at || !r->line)
		return -ENOMEM;
	r->room = LINE_ROOM;
	r->file = fopen(r->path, "re");
	if (!r->file)
		return -errno;
	setvbuf(r->file, buf, _IOFBF, buf_len);
	return 0;
}

static void reader_fini(struct reader *r)
{
	for (unsigned int i = 0; i < r->helper_set_cnt; i++) {
		free(r->helper_set[i].section);
		free(r->helper_set[i].name);
	}
	free(r->helper_set);
	free(r->set_at);
	if (r->line)
		secret_wipe(r->line, r->room);
	free(r->line);
	if (r->file)
		fclose(r->file);
}

vcf_err_t config_read(struct config *c, const char *path)
{
	struct reader r = {.c = c, .path = path};
	char buf[4096]; /* stdio's: wiped here, for the file may hold secrets */
	vcf_err_t err;
	vcf_err_t mode_err = 0;

	err = reader_init(&r, buf, sizeof(buf));
	if (!err)
		err = read_lines(&r);
	if (err && err != -EINVAL)
		log_err("%s: %s", path, strerror(-err));
	if (r.file)
		mode_err = check_mode(&r);
	reader_fini(&r);
	secret_wipe(buf, sizeof(buf));
	return err ? err : mode_err;
}
