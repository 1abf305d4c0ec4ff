/* A disk that is full for a server, for tests by an ordinary user: while the file that FULL_DISK names is there, no file of a database grows. The
 * write-ahead log has a disk of its own, as it were. Preloaded with LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int has_no_room(int fd, off_t end)
{
	const char *full = getenv("FULL_DISK");
	char link[64], path[4096];
	struct stat file;
	ssize_t length;

	if (full == NULL || access(full, F_OK) != 0 || fstat(fd, &file) != 0 || end <= file.st_size)
		return 0;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof path - 1);
	if (length < 0)
		return 0;
	path[length] = '\0';
	return strstr(path, "/base/") != NULL;
}

ssize_t pwrite(int fd, const void *from, size_t length, off_t at)
{
	static ssize_t (*real)(int, const void *, size_t, off_t);

	if (has_no_room(fd, at + (off_t) length))
	{
		errno = ENOSPC;
		return -1;
	}
	if (real == NULL)
		real = dlsym(RTLD_NEXT, "pwrite");
	return real(fd, from, length, at);
}

ssize_t pwrite64(int fd, const void *from, size_t length, off64_t at)
{
	return pwrite(fd, from, length, at);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
	static ssize_t (*real)(int, const struct iovec *, int, off_t);
	off_t end = at;

	for (int part = 0; part < count; part++)
		end += (off_t) parts[part].iov_len;
	if (has_no_room(fd, end))
	{
		errno = ENOSPC;
		return -1;
	}
	if (real == NULL)
		real = dlsym(RTLD_NEXT, "pwritev");
	return real(fd, parts, count, at);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at)
{
	return pwritev(fd, parts, count, at);
}

int posix_fallocate(int fd, off_t from, off_t length)
{
	static int (*real)(int, off_t, off_t);

	if (has_no_room(fd, from + length))
		return ENOSPC;
	if (real == NULL)
		real = dlsym(RTLD_NEXT, "posix_fallocate");
	return real(fd, from, length);
}

int posix_fallocate64(int fd, off64_t from, off64_t length)
{
	return posix_fallocate(fd, from, length);
}
