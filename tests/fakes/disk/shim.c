/* Writes down what a process writes below KEPLER_DISK_FOLDER, in order: KEPLER_DISK_JOURNAL gets one entry per write,
 * truncate, fsync and unlink, so that a test can make the disk as a power cut at any of them would have left it.
 * KEPLER_DISK_FULL names a file: while it exists the disk is full, and writes that would grow a file fail with ENOSPC
 * but for as many bytes as were freed by unlinking since.
 * Entry: type byte (W T S U), u32 name length, u64 offset or size, u32 data length, name, data. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *folder, *full;
static int journal = -1;
static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_ftruncate)(int, off64_t), (*real_fsync)(int), (*real_fdatasync)(int), (*real_unlink)(const char *);

__attribute__((constructor)) static void begin(void) {
    folder = getenv("KEPLER_DISK_FOLDER");
    full = getenv("KEPLER_DISK_FULL");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    const char *path = getenv("KEPLER_DISK_JOURNAL");
    if (path) journal = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static off64_t freed;

/* The name below the folder of an open file; NULL for all others. */
static const char *name_of(int fd, char *buffer, size_t size) {
    char link[64];
    if (!folder) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t got = readlink(link, buffer, size - 1);
    if (got < 0) return NULL;
    buffer[got] = 0;
    size_t length = strlen(folder);
    return strncmp(buffer, folder, length) == 0 && buffer[length] == '/' ? buffer + length + 1 : NULL;
}

static void put(char type, const char *name, uint64_t at, const void *data, uint32_t size) {
    if (journal < 0) return;
    uint32_t length = strlen(name), total = 17 + length + size;
    char *entry = malloc(total);
    entry[0] = type;
    memcpy(entry + 1, &length, 4);
    memcpy(entry + 5, &at, 8);
    memcpy(entry + 13, &size, 4);
    memcpy(entry + 17, name, length);
    if (size) memcpy(entry + 17 + length, data, size);
    if (real_write(journal, entry, total) != (ssize_t)total) abort();
    free(entry);
}

static int refused(int fd, off64_t end) {
    struct stat64 found;
    if (!full || access(full, F_OK) != 0) { freed = 0; return 0; }
    if (fstat64(fd, &found) != 0 || end <= found.st_size) return 0;
    if (end - found.st_size > freed) return 1;
    freed -= end - found.st_size;
    return 0;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    char buffer[4096];
    const char *name = name_of(fd, buffer, sizeof buffer);
    if (name && refused(fd, at + (off64_t)size)) { errno = ENOSPC; return -1; }
    ssize_t done = real_pwrite(fd, data, size, at);
    if (name && done > 0) put('W', name, at, data, done);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

ssize_t write(int fd, const void *data, size_t size) {
    char buffer[4096];
    const char *name = fd > 2 && fd != journal ? name_of(fd, buffer, sizeof buffer) : NULL;
    if (!name) return real_write(fd, data, size);
    off64_t at = lseek64(fd, 0, SEEK_CUR);
    if (refused(fd, at + (off64_t)size)) { errno = ENOSPC; return -1; }
    ssize_t done = real_write(fd, data, size);
    if (done > 0) put('W', name, at, data, done);
    return done;
}

int ftruncate64(int fd, off64_t size) {
    char buffer[4096];
    const char *name = name_of(fd, buffer, sizeof buffer);
    int done = real_ftruncate(fd, size);
    if (name && !done) put('T', name, size, NULL, 0);
    return done;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int synced(int fd, int (*real)(int)) {
    char buffer[4096];
    const char *name = name_of(fd, buffer, sizeof buffer);
    int done = real(fd);
    if (name && !done) put('S', name, 0, NULL, 0);
    return done;
}
int fsync(int fd) { return synced(fd, real_fsync); }
int fdatasync(int fd) { return synced(fd, real_fdatasync); }

int unlink(const char *path) {
    size_t length = folder ? strlen(folder) : 0;
    struct stat64 found;
    int known = stat64(path, &found) == 0;
    int done = real_unlink(path);
    if (!done && known && length && strncmp(path, folder, length) == 0) freed += found.st_blocks * 512;
    if (!done && length && strncmp(path, folder, length) == 0 && path[length] == '/') put('U', path + length + 1, 0, NULL, 0);
    return done;
}
