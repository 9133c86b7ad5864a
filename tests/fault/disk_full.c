/* Makes the disk of a server full while a file exists. It is preloaded, so it needs neither root nor a
   file system of its own. Reading, and writing to sockets and pipes, continues. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int full(int fd) {
    const char *flag = getenv("DISK_FULL");
    struct stat file;
    if (!flag || access(flag, F_OK) != 0 || fstat(fd, &file) != 0 || !S_ISREG(file.st_mode)) return 0;
    errno = ENOSPC;
    return 1;
}

#define NEXT(name) static __typeof__(&name) next; if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *bytes, size_t count) { NEXT(write); return full(fd) ? -1 : next(fd, bytes, count); }
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { NEXT(pwrite); return full(fd) ? -1 : next(fd, bytes, count, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) { NEXT(pwrite64); return full(fd) ? -1 : next(fd, bytes, count, at); }
int ftruncate(int fd, off_t size) { NEXT(ftruncate); return full(fd) ? -1 : next(fd, size); }
int ftruncate64(int fd, off64_t size) { NEXT(ftruncate64); return full(fd) ? -1 : next(fd, size); }
int posix_fallocate(int fd, off_t at, off_t size) { NEXT(posix_fallocate); return full(fd) ? ENOSPC : next(fd, at, size); }
