/* Fails, shortens or kills at one call of the C library, for syscalls.py.

   Loaded with LD_PRELOAD, so that the calls of Python, Arrow, Polars and delta-rs are all met.
   Nothing happens until fault_arm() was called. From then on every call that concerns a path below
   `prefix` is numbered from 0 and logged ("CALL PATH"); call number `at` fails with `error`, and
   with `lasting` so do all later ones that need room on the disk. `error` 0 only counts, -1 is
   SIGKILL before the call, -2 SIGKILL after it, -3 takes half of the bytes of a read or write. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PASS = 0, KILL = -1, KILL_AFTER = -2, SHORT = -3 };
static int armed, fault, lasting, log_to = -1;
static long at, count;
static char prefix[4096];

void fault_arm(const char *below, long number, int error, int last, int descriptor) {
  strncpy(prefix, below, sizeof prefix - 1);
  at = number, fault = error, lasting = last, log_to = descriptor, count = 0;
  armed = 1;
}

static void die(void) { syscall(SYS_kill, syscall(SYS_getpid), SIGKILL); for (;;) pause(); }

/* The path that a call is about: of a descriptor, or of a name below a folder. */
static void resolve(char *full, size_t size, int folder, const char *name) {
  char link[64];
  size_t length = 0;
  full[0] = 0;
  if (!name || name[0] != '/') {
    if (folder == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    long n = syscall(SYS_readlinkat, AT_FDCWD, link, full, size - 1);
    full[length = n < 0 ? 0 : (size_t)n] = 0;
  }
  if (name && name[0]) snprintf(full + length, size - length, "%s%s", length ? "/" : "", name);
}

/* What happens at this call: PASS, SHORT, KILL_AFTER or the number of an error. */
static int met(const char *call, int folder, const char *name, int needs_room) {
  char path[8192], line[9216];
  if (!armed) return PASS;
  int before = errno;
  resolve(path, sizeof path, folder, name);
  errno = before;
  size_t n = strlen(prefix);
  if (strncmp(path, prefix, n) || (path[n] && path[n] != '/')) return PASS;
  long number = __atomic_fetch_add(&count, 1, __ATOMIC_SEQ_CST);
  if (log_to >= 0) {
    int length = snprintf(line, sizeof line, "%s .%s\n", call, path + n);
    syscall(SYS_write, log_to, line, length);
    errno = before;
  }
  int here = number == at || (lasting && at >= 0 && number > at && needs_room);
  if (!here || !fault) return PASS;
  if (fault == KILL) die();
  return fault;
}

#define NEXT(name) \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAULTY(what, folder, path, room, CALL) \
  int do_ = met(what, folder, path, room); \
  if (do_ > 0) { errno = do_; return -1; } \
  __typeof__(CALL) result = CALL; \
  if (do_ == KILL_AFTER) die(); \
  return result

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    NEXT(name); va_list rest; va_start(rest, flags); \
    mode_t mode = va_arg(rest, mode_t); va_end(rest); \
    int room = !!(flags & O_CREAT); \
    FAULTY(room ? "create" : "open", AT_FDCWD, path, room, real(path, flags, mode)); }
#define OPENAT(name) \
  int name(int folder, const char *path, int flags, ...) { \
    NEXT(name); va_list rest; va_start(rest, flags); \
    mode_t mode = va_arg(rest, mode_t); va_end(rest); \
    int room = !!(flags & O_CREAT); \
    FAULTY(room ? "create" : "open", folder, path, room, real(folder, path, flags, mode)); }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)

#define HALF(size) (do_ == SHORT && (size) > 1 ? (size) / 2 : (size))
ssize_t read(int fd, void *to, size_t size) {
  NEXT(read);
  FAULTY("read", fd, 0, 0, real(fd, to, HALF(size)));
}
ssize_t write(int fd, const void *from, size_t size) {
  NEXT(write);
  FAULTY("write", fd, 0, 1, real(fd, from, HALF(size)));
}
#define PREAD(name, offset) \
  ssize_t name(int fd, void *to, size_t size, offset o) { \
    NEXT(name); FAULTY("read", fd, 0, 0, real(fd, to, HALF(size), o)); }
#define PWRITE(name, offset) \
  ssize_t name(int fd, const void *from, size_t size, offset o) { \
    NEXT(name); FAULTY("write", fd, 0, 1, real(fd, from, HALF(size), o)); }
PREAD(pread, off_t) PREAD(pread64, off64_t) PWRITE(pwrite, off_t) PWRITE(pwrite64, off64_t)
ssize_t readv(int fd, const struct iovec *v, int n) {
  NEXT(readv);
  FAULTY("read", fd, 0, 0, real(fd, v, do_ == SHORT && n > 1 ? n / 2 : n));
}
ssize_t writev(int fd, const struct iovec *v, int n) {
  NEXT(writev);
  FAULTY("write", fd, 0, 1, real(fd, v, do_ == SHORT && n > 1 ? n / 2 : n));
}
ssize_t copy_file_range(int a, off64_t *i, int b, off64_t *j, size_t n, unsigned f) {
  NEXT(copy_file_range);
  FAULTY("write", b, 0, 1, real(a, i, b, j, HALF(n), f));
}
ssize_t sendfile(int b, int a, off_t *i, size_t n);
ssize_t sendfile(int b, int a, off_t *i, size_t n) {
  NEXT(sendfile);
  FAULTY("write", b, 0, 1, real(b, a, i, HALF(n)));
}

/* Linux has closed the descriptor, whatever close() returns. */
int close(int fd) {
  NEXT(close);
  int do_ = met("close", fd, 0, 0), result = real(fd);
  if (do_ == KILL_AFTER) die();
  if (do_ > 0) { errno = do_; return -1; }
  return result;
}
int fsync(int fd) { NEXT(fsync); FAULTY("fsync", fd, 0, 1, real(fd)); }
int fdatasync(int fd) { NEXT(fdatasync); FAULTY("fsync", fd, 0, 1, real(fd)); }
int ftruncate(int fd, off_t n) { NEXT(ftruncate); FAULTY("truncate", fd, 0, 0, real(fd, n)); }
int ftruncate64(int fd, off64_t n) { NEXT(ftruncate64); FAULTY("truncate", fd, 0, 0, real(fd, n)); }
int flock(int fd, int what) { NEXT(flock); FAULTY("flock", fd, 0, 0, real(fd, what)); }
int fchmod(int fd, mode_t m) { NEXT(fchmod); FAULTY("chmod", fd, 0, 0, real(fd, m)); }
int chmod(const char *p, mode_t m) { NEXT(chmod); FAULTY("chmod", AT_FDCWD, p, 0, real(p, m)); }
int mkdir(const char *p, mode_t m) { NEXT(mkdir); FAULTY("mkdir", AT_FDCWD, p, 1, real(p, m)); }
int mkdirat(int d, const char *p, mode_t m) {
  NEXT(mkdirat);
  FAULTY("mkdir", d, p, 1, real(d, p, m));
}
int rmdir(const char *p) { NEXT(rmdir); FAULTY("rmdir", AT_FDCWD, p, 0, real(p)); }
int unlink(const char *p) { NEXT(unlink); FAULTY("unlink", AT_FDCWD, p, 0, real(p)); }
int unlinkat(int d, const char *p, int f) {
  NEXT(unlinkat);
  FAULTY("unlink", d, p, 0, real(d, p, f));
}
int rename(const char *a, const char *b) {
  NEXT(rename);
  FAULTY("rename", AT_FDCWD, b, 1, real(a, b));
}
int renameat(int c, const char *a, int d, const char *b) {
  NEXT(renameat);
  FAULTY("rename", d, b, 1, real(c, a, d, b));
}
int renameat2(int c, const char *a, int d, const char *b, unsigned f) {
  NEXT(renameat2);
  FAULTY("rename", d, b, 1, real(c, a, d, b, f));
}
int link(const char *a, const char *b) { NEXT(link); FAULTY("link", AT_FDCWD, b, 1, real(a, b)); }
int linkat(int c, const char *a, int d, const char *b, int f) {
  NEXT(linkat);
  FAULTY("link", d, b, 1, real(c, a, d, b, f));
}
int symlink(const char *a, const char *b) {
  NEXT(symlink);
  FAULTY("symlink", AT_FDCWD, b, 1, real(a, b));
}
int symlinkat(const char *a, int d, const char *b) {
  NEXT(symlinkat);
  FAULTY("symlink", d, b, 1, real(a, d, b));
}
ssize_t readlink(const char *p, char *to, size_t n) {
  NEXT(readlink);
  FAULTY("readlink", AT_FDCWD, p, 0, real(p, to, n));
}
ssize_t readlinkat(int d, const char *p, char *to, size_t n) {
  NEXT(readlinkat);
  FAULTY("readlink", d, p, 0, real(d, p, to, n));
}
#define STAT(name, type) \
  int name(const char *p, struct type *s) { \
    NEXT(name); FAULTY("stat", AT_FDCWD, p, 0, real(p, s)); }
#define FSTAT(name, type) \
  int name(int fd, struct type *s) { \
    NEXT(name); FAULTY("stat", fd, 0, 0, real(fd, s)); }
#define FSTATAT(name, type) \
  int name(int d, const char *p, struct type *s, int f) { \
    NEXT(name); FAULTY("stat", d, p, 0, real(d, p, s, f)); }
STAT(stat, stat) STAT(lstat, stat) STAT(stat64, stat64) STAT(lstat64, stat64)
FSTAT(fstat, stat) FSTAT(fstat64, stat64) FSTATAT(fstatat, stat) FSTATAT(fstatat64, stat64)
int statx(int d, const char *p, int f, unsigned m, struct statx *s) {
  NEXT(statx);
  FAULTY("stat", d, p, 0, real(d, p, f, m, s));
}

#define FOLDER(name, ARGUMENTS, folder, path, CALL) \
  DIR *name ARGUMENTS { NEXT(name); int do_ = met("opendir", folder, path, 0); \
    if (do_ > 0) { errno = do_; return 0; } DIR *result = CALL; if (do_ == KILL_AFTER) die(); return result; }
FOLDER(opendir, (const char *p), AT_FDCWD, p, real(p))
FOLDER(fdopendir, (int fd), fd, 0, real(fd))
#define READDIR(name, type) \
  struct type *name(DIR *d) { NEXT(name); int do_ = met("readdir", dirfd(d), 0, 0); \
    if (do_ > 0) { errno = do_; return 0; } struct type *result = real(d); if (do_ == KILL_AFTER) die(); return result; }
READDIR(readdir, dirent) READDIR(readdir64, dirent64)
