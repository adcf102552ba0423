// Preloaded into a process: at its REFIT_KILL_AT-th change of anything below REFIT_KILL_DIR it dies by SIGKILL, a write after half of its bytes. Counts are written to REFIT_KILL_COUNT.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long count;

static int below(const char *path) {
  const char *dir = getenv("REFIT_KILL_DIR");
  return dir && path && strncmp(path, dir, strlen(dir)) == 0;
}

static int below_fd(int fd) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return below(path);
}

/** True for the change that must not be completed. */
static int fatal(void) {
  const char *at = getenv("REFIT_KILL_AT");
  long now = atomic_fetch_add(&count, 1) + 1;
  const char *log = getenv("REFIT_KILL_COUNT");
  if (log) {
    int fd = (int)((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open"))(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd >= 0) {
      ((ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write"))(fd, ".", 1);
      close(fd);
    }
  }
  return at && now == atol(at);
}

static void die(void) { kill(getpid(), SIGKILL); }

#define REAL(type, name, ...) type (*real)(__VA_ARGS__) = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *data, size_t bytes) {
  REAL(ssize_t, "write", int, const void *, size_t);
  if (below_fd(fd) && fatal()) { real(fd, data, bytes / 2); die(); }
  return real(fd, data, bytes);
}
ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t at) {
  REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
  if (below_fd(fd) && fatal()) { real(fd, data, bytes / 2, at); die(); }
  return real(fd, data, bytes, at);
}
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) { return pwrite64(fd, data, bytes, at); }
ssize_t writev(int fd, const struct iovec *parts, int number) {
  REAL(ssize_t, "writev", int, const struct iovec *, int);
  if (below_fd(fd) && fatal()) { real(fd, parts, number / 2); die(); }
  return real(fd, parts, number);
}
int fsync(int fd) {
  REAL(int, "fsync", int);
  if (below_fd(fd) && fatal()) die();
  return real(fd);
}
int fdatasync(int fd) {
  REAL(int, "fdatasync", int);
  if (below_fd(fd) && fatal()) die();
  return real(fd);
}
int rename(const char *from, const char *to) {
  REAL(int, "rename", const char *, const char *);
  if (below(to) && fatal()) die();
  return real(from, to);
}
int unlink(const char *path) {
  REAL(int, "unlink", const char *);
  if (below(path) && fatal()) die();
  return real(path);
}
int rmdir(const char *path) {
  REAL(int, "rmdir", const char *);
  if (below(path) && fatal()) die();
  return real(path);
}
int mkdir(const char *path, mode_t mode) {
  REAL(int, "mkdir", const char *, mode_t);
  if (below(path) && fatal()) die();
  return real(path, mode);
}
int ftruncate64(int fd, off64_t size) {
  REAL(int, "ftruncate64", int, off64_t);
  if (below_fd(fd) && fatal()) die();
  return real(fd, size);
}
static int opened(const char *name, const char *path, int flags, mode_t mode) {
  REAL(int, name, const char *, int, ...);
  if ((flags & (O_CREAT | O_TRUNC)) && below(path) && fatal()) die();
  return real(path, flags, mode);
}
int open(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  return opened("open", path, flags, mode);
}
int open64(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  return opened("open64", path, flags, mode);
}
