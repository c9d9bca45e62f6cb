/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * holdmm: keeps a process's address space alive beyond the process, as any reader of it does for a
 * moment: a read of /proc/PID/mem, whose own buffer is not there for so long.
 *
 * usage: holdmm PID MILLISECONDS
 * Prints "holds" on the way. Status 77: this system has no userfaultfd for us.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096 };

static int uffd;
static unsigned char *page;
static unsigned int hold_ms;

static void die(const char *what, int status)
{
	fprintf(stderr, "holdmm: %s: %s\n", what, strerror(errno));
	exit(status);
}

static void watch_page(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};

	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) < 0)
		die("userfaultfd", 77);
	reg.range.start = (uintptr_t)page;
	reg.range.len = PAGE;
	if (ioctl(uffd, UFFDIO_REGISTER, &reg) < 0)
		die("userfaultfd", 77);
}

static void *bring_page(void *arg)
{
	struct uffdio_zeropage zero = {.range = {(uintptr_t)page, PAGE}};

	(void)arg;
	usleep(hold_ms * 1000);
	if (ioctl(uffd, UFFDIO_ZEROPAGE, &zero) < 0)
		die("the page", 1);
	return NULL;
}

static unsigned long first_address(const char *pid)
{
	char path[64];
	unsigned long at = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/maps", pid);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%lx", &at) != 1)
		die(path, 1);
	fclose(f);
	return at;
}

int main(int argc, char **argv)
{
	char path[64];
	pthread_t thread;
	int mem;

	if (argc != 3)
		return 2;
	hold_ms = (unsigned int)atoi(argv[2]);
	watch_page();
	snprintf(path, sizeof(path), "/proc/%s/mem", argv[1]);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	if (mem < 0)
		die(path, 77);
	errno = pthread_create(&thread, NULL, bring_page, NULL);
	if (errno)
		die("a thread", 1);
	printf("holds\n");
	fflush(stdout);
	if (pread(mem, page, 16, (off_t)first_address(argv[1])) != 16)
		die("reading", 1);
	return 0;
}
