/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/metrics_address.h"
#include "fs/metrics_http.h"
#include "fs/metrics_text.h"
#include "tests/unit/unit.h"
#include "util/cleanup.h"

static const struct {
	const char *text;
	vcf_err_t err;
	int family;
} addresses[] = {
	{"127.0.0.1:9799", 0, AF_INET},
	{"127.255.0.9:1", 0, AF_INET},
	{"[::1]:65535", 0, AF_INET6},
	{"unix:/run/vmcryptfs/metrics", 0, AF_UNIX},
	{"0.0.0.0:9799", -EADDRNOTAVAIL, 0},
	{"192.168.1.1:9799", -EADDRNOTAVAIL, 0},
	{"128.0.0.1:9799", -EADDRNOTAVAIL, 0},
	{"[::]:9799", -EADDRNOTAVAIL, 0},
	{"[::ffff:127.0.0.1]:9799", -EADDRNOTAVAIL, 0},
	{"[fe80::1]:9799", -EADDRNOTAVAIL, 0},
	{"", -EINVAL, 0},
	{":9799", -EINVAL, 0},
	{"9799", -EINVAL, 0},
	{"127.0.0.1", -EINVAL, 0},
	{"127.0.0.1:", -EINVAL, 0},
	{"127.0.0.1:0", -EINVAL, 0},
	{"127.0.0.1:65536", -EINVAL, 0},
	{"127.0.0.1:9799 ", -EINVAL, 0},
	{"localhost:9799", -EINVAL, 0},
	{"example.org:9799", -EINVAL, 0},
	{"[::1:9799", -EINVAL, 0},
	{"::1:9799", -EINVAL, 0},
	{"[]:9799", -EINVAL, 0},
	{"[:9799", -EINVAL, 0},
	{"127.1:9799", -EINVAL, 0},
	{"unix:", -EINVAL, 0},
	{"unix:relative", -EINVAL, 0},
	{"unix:/run/", -EINVAL, 0},
	{"unix:/2345678901234567890123456789012345678901234567890123456789012345678901234567890"
	 "123456789012345678901234567",
	 0, AF_UNIX},
	{"unix:/2345678901234567890123456789012345678901234567890123456789012345678901234567890"
	 "1234567890123456789012345678",
	 -ENAMETOOLONG, 0},
	{"1111111111111111111111111111111111111111111111111111111111111111111111111:1",
	 -EINVAL, 0},
};

START_TEST(address)
{
	struct metrics_address a;

	ck_assert_int_eq(metrics_address_parse(&a, addresses[_i].text),
			 addresses[_i].err);
	if (!addresses[_i].err)
		ck_assert_int_eq(a.at.any.sa_family, addresses[_i].family);
	ck_assert_ptr_nonnull(metrics_address_error(addresses[_i].err));
}
END_TEST

static const struct {
	const char *text;
	enum metrics_request what;
} requests[] = {
	{"", METRICS_MORE},
	{"GET /metrics HTTP/1.1\r\n", METRICS_MORE},
	{"GET /metrics HTTP/1.1\r\nHost: x\r\n\r", METRICS_MORE},
	{"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", METRICS_PAGE},
	{"GET /metrics HTTP/1.1\r\n\r\n", METRICS_PAGE},
	{"GET /metrics HTTP/1.0\n\n", METRICS_PAGE},
	{"GET /metrics?a=b%20c HTTP/1.1\r\n\r\n", METRICS_PAGE},
	{"GET / HTTP/1.1\r\n\r\n", METRICS_INDEX},
	{"GET /metricsx HTTP/1.1\r\n\r\n", METRICS_ABSENT},
	{"GET /../metrics HTTP/1.1\r\n\r\n", METRICS_ABSENT},
	{"GET  HTTP/1.1\r\n\r\n", METRICS_ABSENT},
	{"POST /metrics HTTP/1.1\r\n\r\n", METRICS_METHOD},
	{"HEAD /metrics HTTP/1.1\r\n\r\n", METRICS_METHOD},
	{"GET\r\n\r\n", METRICS_BAD},
	{"GET /metrics\r\n\r\n", METRICS_BAD},
	{"GET /metrics FTP/1\r\n\r\n", METRICS_BAD},
	{"\r\n\r\n", METRICS_BAD},
	{"\n\n", METRICS_BAD},
	{" \n\n", METRICS_BAD},
	{"\x16\x03\x01 tls\r\n\r\n", METRICS_BAD},
};

START_TEST(request)
{
	ck_assert_int_eq(
		metrics_http_request(requests[_i].text, strlen(requests[_i].text)),
		requests[_i].what);
}
END_TEST

START_TEST(request_long)
{
	char buf[METRICS_REQUEST_MAX];

	memset(buf, 'a', sizeof(buf));
	ck_assert_int_eq(metrics_http_request(buf, sizeof(buf) - 1), METRICS_MORE);
	ck_assert_int_eq(metrics_http_request(buf, sizeof(buf)), METRICS_BAD);
}
END_TEST

static char *text_of(const struct metrics_view *v)
{
	char *text = NULL;
	size_t len;
	FILE *to = open_memstream(&text, &len);

	metrics_write(to, v);
	fclose(to);
	return text;
}

static const struct {
	const char *value, *label;
} labels[] = {
	{"disk", "\"disk\""},
	{"", "\"\""},
	{"a\"b\\c\nd", "\"a\\\"b\\\\c\\nd\""},
	{"\033[2J", "\"\033[2J\""}, /* allowed in UTF-8 text */
	{"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
	 "\"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\""},
	{"\xff\xc3", "\"\\\\xff\\\\xc3\""},
	{"\xc0\x80", "\"\\\\xc0\\\\x80\""},	       /* overlong */
	{"\xed\xa0\x80", "\"\\\\xed\\\\xa0\\\\x80\""}, /* a surrogate */
	{"\xf4\x90\x80\x80", "\"\\\\xf4\\\\x90\\\\x80\\\\x80\""},
	{"\xe0\x80\x80", "\"\\\\xe0\\\\x80\\\\x80\""},
	{"\xf0\x80\x80\x80", "\"\\\\xf0\\\\x80\\\\x80\\\\x80\""},
	{"cut\xe2\x82", "\"cut\\\\xe2\\\\x82\""},
};

START_TEST(label)
{
	char *text = NULL;
	size_t len;
	FILE *to = open_memstream(&text, &len);

	metrics_write_label(to, labels[_i].value);
	fclose(to);
	ck_assert_str_eq(text, labels[_i].label);
	free(text);
}
END_TEST

static const char sample[] =
	"{\"version\":\"1\",\"generation\":3,\"deaths\":2,\"keys\":3,\"stall_ms\":"
	"{\"count\":2,\"mean\":3.5,\"max\":5,\"last\":2},"
	"\"io\":{\"bytes_read\":4096,\"read_latency\":{\"sum_us\":30,\"counts\":[1,2]}},"
	"\"key_services\":[{\"name\":\"default\",\"state\":\"ok\",\"breaker\":\"closed\","
	"\"last_success\":\"1970-01-02T00:00:00Z\",\"last_failure\":null},"
	"{\"name\":\"gold\",\"state\":\"failing\",\"breaker\":\"open\"}],"
	"\"destroy_queue\":{\"waiting\":7,\"suspect\":1,\"next_due\":null},"
	"\"images\":[{\"path\":\"a\",\"uuid\":\"u1\",\"opens\":1,\"reads\":5,\"writes\":1},"
	"{\"path\":\"b\\\"\",\"uuid\":\"u2\",\"opens\":0,\"reads\":50,\"writes\":0},"
	"{\"path\":\"c\",\"uuid\":\"u3\",\"opens\":2,\"reads\":0,\"writes\":0}]}";

/* One mount that answers and one that does not. */
static char *sample_text(bool per_image, size_t limit)
{
	struct metrics_mount mounts[] = {
		{.mountpoint = "/a",
		 .mounted = true,
		 .status = json_tokener_parse(sample)},
		{.mountpoint = "/b"},
	};
	struct metrics_view v = {.mounts = mounts,
				 .mount_cnt = 2,
				 .per_image = per_image,
				 .image_limit = limit};
	char *text;

	ck_assert_ptr_nonnull(mounts[0].status);
	text = text_of(&v);
	json_object_put(mounts[0].status);
	return text;
}

static const struct {
	const char *line;
	bool there;
} lines[] = {
	{"# TYPE vmcryptfs_up gauge\nvmcryptfs_up{mountpoint=\"/a\"} 1\n"
	 "vmcryptfs_up{mountpoint=\"/b\"} 0\n",
	 true},
	{"\nvmcryptfs_mounted{mountpoint=\"/a\"} 1\nvmcryptfs_mounted{mountpoint=\"/b\"} 0\n",
	 true},
	{"\nvmcryptfs_server_deaths_total{mountpoint=\"/a\"} 2\n", true},
	{"\nvmcryptfs_server_deaths_total{mountpoint=\"/b\"}", false},
	{"\nvmcryptfs_stall_seconds_total{mountpoint=\"/a\"} 0.007\n", true},
	{"\nvmcryptfs_stall_longest_seconds{mountpoint=\"/a\"} 0.005\n", true},
	{"\nvmcryptfs_io_duration_seconds_bucket{mountpoint=\"/a\",direction=\"read\",le=\"8e-06\"} 1\n"
	 "vmcryptfs_io_duration_seconds_bucket{mountpoint=\"/a\",direction=\"read\",le=\"1.6e-05\"} 3\n",
	 true},
	{"direction=\"read\",le=\"8.388608\"} 3\n", true},
	{"direction=\"read\",le=\"+Inf\"} 3\n"
	 "vmcryptfs_io_duration_seconds_sum{mountpoint=\"/a\",direction=\"read\"} 0.000030\n"
	 "vmcryptfs_io_duration_seconds_count{mountpoint=\"/a\",direction=\"read\"} 3\n",
	 true},
	{"\nvmcryptfs_key_service_up{mountpoint=\"/a\",service=\"default\"} 1\n"
	 "vmcryptfs_key_service_up{mountpoint=\"/a\",service=\"gold\"} 0\n",
	 true},
	{"\nvmcryptfs_key_service_held_back{mountpoint=\"/a\",service=\"gold\"} 1\n",
	 true},
	{"_last_success_timestamp_seconds{mountpoint=\"/a\",service=\"default\"} 86400\n",
	 true},
	{"last_success_timestamp_seconds{mountpoint=\"/a\",service=\"gold\"}", false},
	{"last_failure_timestamp_seconds", false},
	{"\nvmcryptfs_destroy_queue{mountpoint=\"/a\"} 7\n", true},
	{"vmcryptfs_destroy_next_timestamp_seconds", false},
	{"\nvmcryptfs_images_open{mountpoint=\"/a\"} 2\n", true},
	{"vmcryptfs_image_", false},
	{"vmcryptfs_images_omitted", false},
};

START_TEST(exposition)
{
	auto_free char *text = sample_text(false, 100);

	ck_assert_int_eq(strstr(text, lines[_i].line) != NULL, lines[_i].there);
}
END_TEST

START_TEST(images)
{
	auto_free char *all = sample_text(true, 100);
	auto_free char *some = sample_text(true, 2);

	ck_assert_ptr_nonnull(strstr(
		all, "image_opens{mountpoint=\"/a\",image=\"c\",uuid=\"u3\"} 2\n"));
	ck_assert_ptr_nonnull(
		strstr(all, "vmcryptfs_images_omitted{mountpoint=\"/a\"} 0\n"));
	ck_assert_ptr_null(strstr(some, "uuid=\"u3\""));
	ck_assert_ptr_nonnull(
		strstr(some, "vmcryptfs_images_omitted{mountpoint=\"/a\"} 1\n"));
	ck_assert_ptr_nonnull(strstr(
		some, "vmcryptfs_image_requests_total{mountpoint=\"/a\",image=\"b\\\"\","
		      "uuid=\"u2\",direction=\"read\"} 50\n"));
}
END_TEST

/* The document has a row for each, and no row for another. */
START_TEST(document)
{
	const char *root = getenv("VCF_SOURCE_ROOT");
	char path[4096], row[512];
	auto_free char *doc = calloc(1, 1 << 16);
	size_t rows = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/contrib/doc/metrics.md",
		 root ? root : VCF_SOURCE_ROOT);
	f = fopen(path, "r");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_gt(fread(doc, 1, (1 << 16) - 1, f), 0);
	fclose(f);
	for (size_t i = 0; i < metrics_family_cnt; i++) {
		const struct metrics_family *m = &metrics_families[i];

		snprintf(row, sizeof(row), "\n| `%s` | %s | %s |", m->name, m->type,
			 m->help);
		ck_assert_msg(strstr(doc, row) != NULL, "missing in metrics.md: %s", row);
	}
	for (const char *p = doc; (p = strstr(p, "\n| `vmcryptfs_")); p++)
		rows++;
	ck_assert_uint_eq(rows, metrics_family_cnt);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("metrics");
	TCase *t = tcase_create("all");

	tcase_add_loop_test(t, address, 0, ROWS(addresses));
	tcase_add_loop_test(t, request, 0, ROWS(requests));
	tcase_add_test(t, request_long);
	tcase_add_loop_test(t, label, 0, ROWS(labels));
	tcase_add_loop_test(t, exposition, 0, ROWS(lines));
	tcase_add_test(t, images);
	tcase_add_test(t, document);
	suite_add_tcase(s, t);
	return s;
}
