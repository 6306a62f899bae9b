// Preloaded into a program (LD_PRELOAD): counts its calls on files under one folder, and lets one of them fail.
//
//   FAQ_FAULTS_ROOT  calls on files under this folder count, by their path or by what was opened
//   FAQ_FAULTS_LOG   a file to which every such call is appended: "CALL NUMBER PATH", and "! …" before the one that fails
//   FAQ_FAULT        CALL:NUMBER:WHAT, or CALL:NUMBER+:WHAT for all such calls from that one on. WHAT is a number, the errno
//                    of the failure, or: short (half of the bytes), none (a call on no bytes, as at the end of a file or on a
//                    full disk), kill (the process is killed before the call)
//
// The calls are those that the C and C++ libraries make through the dynamic linker.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

enum call {
  CALL_open, CALL_read, CALL_pread, CALL_write, CALL_pwrite, CALL_writev, CALL_fsync, CALL_fdatasync, CALL_close,
  CALL_rename, CALL_link, CALL_unlink, CALL_mkdir, CALL_stat, CALL_fstat, CALL_access, CALL_lseek, CALL_ftruncate,
  CALL_mmap, CALL_flock, CALL_opendir, CALL_readdir, CALL_closedir, CALLS
};
static const char* const names[CALLS] = {
  "open", "read", "pread", "write", "pwrite", "writev", "fsync", "fdatasync", "close",
  "rename", "link", "unlink", "mkdir", "stat", "fstat", "access", "lseek", "ftruncate",
  "mmap", "flock", "opendir", "readdir", "closedir"};

enum what { NOTHING, FAIL, SHORT, NONE };  // what is to happen to a call

// Of descriptors and of what they were opened as.
enum { DESCRIPTORS = 4096, LONGEST = 160 };
static char opened[DESCRIPTORS][LONGEST];

static char root[4096];
static size_t root_length;
static int log_descriptor = -1;
static int fault_call = -1, fault_from_there_on, fault_errno, fault_kill;
static enum what fault_what;
static long fault_number;
static long counts[CALLS];

__attribute__((constructor)) static void start(void) {
  const char* text = getenv("FAQ_FAULTS_ROOT");
  if (!text) return;
  snprintf(root, sizeof root, "%s", text);
  root_length = strlen(root);
  if ((text = getenv("FAQ_FAULTS_LOG"))) {
    const long low = syscall(SYS_openat, AT_FDCWD, text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    // Out of the way of the descriptors that the program gets.
    log_descriptor = (int)syscall(SYS_fcntl, low, F_DUPFD_CLOEXEC, 900);
    syscall(SYS_close, low);
  }
  char call[32], from[2], what[16];
  text = getenv("FAQ_FAULT");
  if (!text) return;
  from[0] = 0;
  if (sscanf(text, "%31[^:]:%ld%1[+]:%15s", call, &fault_number, from, what) != 4 &&
      (from[0] = 0, sscanf(text, "%31[^:]:%ld:%15s", call, &fault_number, what) != 3)) {
    fprintf(stderr, "faults: FAQ_FAULT=%s: expected CALL:NUMBER:WHAT\n", text);
    _exit(127);
  }
  fault_from_there_on = from[0] == '+';
  for (int i = 0; i < CALLS; ++i)
    if (strcmp(names[i], call) == 0) fault_call = i;
  if (strcmp(what, "short") == 0) fault_what = SHORT;
  else if (strcmp(what, "none") == 0) fault_what = NONE;
  else if (strcmp(what, "kill") == 0) fault_what = FAIL, fault_kill = 1;
  else fault_what = FAIL, fault_errno = atoi(what);
  if (fault_call < 0 || (fault_what == FAIL && !fault_kill && fault_errno <= 0)) {
    fprintf(stderr, "faults: FAQ_FAULT=%s: an unknown call or failure\n", text);
    _exit(127);
  }
}

// The path when the call is one of the root's, or null.
static const char* of_path(int folder, const char* path, char* whole) {
  if (!root_length || !path) return NULL;
  if (path[0] == '/') snprintf(whole, 4096, "%s", path);
  else if (folder == AT_FDCWD) {
    if (syscall(SYS_getcwd, whole, 4096) <= 0) return NULL;
    const size_t length = strlen(whole);
    snprintf(whole + length, 4096 - length, "/%s", path);
  } else if (folder >= 0 && folder < DESCRIPTORS && opened[folder][0]) {
    snprintf(whole, 4096, "%s/%s", opened[folder], path);
  } else return NULL;
  return strncmp(whole, root, root_length) == 0 && (whole[root_length] == '/' || !whole[root_length]) ? whole : NULL;
}
static const char* of_descriptor(int descriptor) {
  return descriptor >= 0 && descriptor < DESCRIPTORS && opened[descriptor][0] ? opened[descriptor] : NULL;
}
static void remember(int descriptor, const char* path) {
  if (descriptor >= 0 && descriptor < DESCRIPTORS) snprintf(opened[descriptor], LONGEST, "%s", path);
}

// Counts the call; what is to happen to it. errno is set for a failure.
static enum what next(enum call call, const char* path) {
  if (!path) return NOTHING;
  const long number = __atomic_add_fetch(&counts[call], 1, __ATOMIC_SEQ_CST);
  const int strikes = (int)call == fault_call && (number == fault_number || (fault_from_there_on && number > fault_number));
  if (log_descriptor >= 0) {
    const int before = errno;
    char line[4200];
    const int length = snprintf(line, sizeof line, "%s%s %ld %s\n", strikes ? "! " : "", names[call], number, path);
    syscall(SYS_write, log_descriptor, line, length);
    errno = before;
  }
  if (!strikes) return NOTHING;
  if (fault_kill) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
  }
  if (fault_what == FAIL) errno = fault_errno;
  return fault_what;
}

#define REAL(type, name, ...)                                                     \
  static type (*real)(__VA_ARGS__);                                               \
  if (!real) *(void**)&real = dlsym(RTLD_NEXT, name)

// --- opening

#define OPEN(name, declared, given, folder)                                       \
  EXPORTED int name(declared, int flags, ...) {                                   \
    REAL(int, #name, declared, int, mode_t);                                      \
    mode_t mode = 0;                                                              \
    if (flags & (O_CREAT | O_TMPFILE)) {                                          \
      va_list more;                                                               \
      va_start(more, flags);                                                      \
      mode = va_arg(more, mode_t);                                                \
      va_end(more);                                                               \
    }                                                                             \
    char whole[4096];                                                             \
    const char* ours = of_path(folder, path, whole);                              \
    if (next(CALL_open, ours) == FAIL) return -1;                                 \
    const int descriptor = real(given, flags, mode);                              \
    if (ours) remember(descriptor, ours);                                         \
    return descriptor;                                                            \
  }
#define COMMA ,
OPEN(open, const char* path, path, AT_FDCWD)
OPEN(open64, const char* path, path, AT_FDCWD)
OPEN(openat, int folder COMMA const char* path, folder COMMA path, folder)
OPEN(openat64, int folder COMMA const char* path, folder COMMA path, folder)

#define FOPEN(name)                                                               \
  EXPORTED FILE* name(const char* path, const char* mode) {                       \
    REAL(FILE*, #name, const char*, const char*);                                 \
    char whole[4096];                                                             \
    const char* ours = of_path(AT_FDCWD, path, whole);                            \
    if (next(CALL_open, ours) == FAIL) return NULL;                               \
    FILE* file = real(path, mode);                                                \
    if (ours && file) remember(fileno(file), ours);                               \
    return file;                                                                  \
  }
FOPEN(fopen)
FOPEN(fopen64)

EXPORTED DIR* opendir(const char* path) {
  REAL(DIR*, "opendir", const char*);
  char whole[4096];
  const char* ours = of_path(AT_FDCWD, path, whole);
  if (next(CALL_opendir, ours) == FAIL) return NULL;
  DIR* folder = real(path);
  if (ours && folder) remember(dirfd(folder), ours);
  return folder;
}
EXPORTED DIR* fdopendir(int descriptor) {
  REAL(DIR*, "fdopendir", int);
  return next(CALL_opendir, of_descriptor(descriptor)) == FAIL ? NULL : real(descriptor);
}

// --- bytes

static size_t half(size_t count) { return count > 1 ? count / 2 : count; }

#define TRANSFER(call, ...)                                                       \
  const enum what what = next(call, of_descriptor(descriptor));                   \
  if (what == FAIL) return -1;                                                    \
  if (what == NONE) return 0;                                                     \
  return real(descriptor, bytes, what == SHORT ? half(count) : count __VA_ARGS__);
EXPORTED ssize_t read(int descriptor, void* bytes, size_t count) {
  REAL(ssize_t, "read", int, void*, size_t);
  TRANSFER(CALL_read)
}
EXPORTED ssize_t write(int descriptor, const void* bytes, size_t count) {
  REAL(ssize_t, "write", int, const void*, size_t);
  TRANSFER(CALL_write)
}
#define AT_OFFSET(name, call, pointer)                                            \
  EXPORTED ssize_t name(int descriptor, pointer bytes, size_t count, off_t at) {  \
    REAL(ssize_t, #name, int, pointer, size_t, off_t);                            \
    TRANSFER(call, , at)                                          \
  }
AT_OFFSET(pread, CALL_pread, void*)
AT_OFFSET(pread64, CALL_pread, void*)
AT_OFFSET(pwrite, CALL_pwrite, const void*)
AT_OFFSET(pwrite64, CALL_pwrite, const void*)
EXPORTED ssize_t writev(int descriptor, const struct iovec* parts, int count) {
  REAL(ssize_t, "writev", int, const struct iovec*, int);
  switch (next(CALL_writev, of_descriptor(descriptor))) {
    case FAIL: return -1;
    case NONE: return 0;
    case SHORT: return write(descriptor, parts[0].iov_base, half(parts[0].iov_len));
    default: return real(descriptor, parts, count);
  }
}

// --- descriptors

#define ON_DESCRIPTOR(name, call, declared, ...)                                  \
  EXPORTED int name(int descriptor declared) {                                    \
    REAL(int, #name, int declared);                                               \
    return next(call, of_descriptor(descriptor)) == FAIL ? -1 : real(descriptor __VA_ARGS__); \
  }
ON_DESCRIPTOR(fsync, CALL_fsync, )
ON_DESCRIPTOR(fdatasync, CALL_fdatasync, )
ON_DESCRIPTOR(fstat, CALL_fstat, COMMA struct stat* status, , status)
ON_DESCRIPTOR(fstat64, CALL_fstat, COMMA struct stat64* status, , status)
ON_DESCRIPTOR(ftruncate, CALL_ftruncate, COMMA off_t size, , size)
ON_DESCRIPTOR(ftruncate64, CALL_ftruncate, COMMA off_t size, , size)
ON_DESCRIPTOR(flock, CALL_flock, COMMA int operation, , operation)

// A descriptor is gone whatever close() says.
EXPORTED int close(int descriptor) {
  REAL(int, "close", int);
  const enum what what = next(CALL_close, of_descriptor(descriptor));
  const int error = errno;
  if (of_descriptor(descriptor)) opened[descriptor][0] = 0;
  const int result = real(descriptor);
  if (what != FAIL) return result;
  errno = error;
  return -1;
}
EXPORTED int fclose(FILE* file) {
  REAL(int, "fclose", FILE*);
  const int descriptor = fileno(file);
  const enum what what = next(CALL_close, of_descriptor(descriptor));
  const int error = errno;
  if (of_descriptor(descriptor)) opened[descriptor][0] = 0;
  const int result = real(file);
  if (what != FAIL) return result;
  errno = error;
  return EOF;
}
EXPORTED int closedir(DIR* folder) {
  REAL(int, "closedir", DIR*);
  const int descriptor = dirfd(folder);
  const enum what what = next(CALL_closedir, of_descriptor(descriptor));
  const int error = errno;
  if (of_descriptor(descriptor)) opened[descriptor][0] = 0;
  const int result = real(folder);
  if (what != FAIL) return result;
  errno = error;
  return -1;
}

#define SEEK(name)                                                                \
  EXPORTED off_t name(int descriptor, off_t offset, int from) {                   \
    REAL(off_t, #name, int, off_t, int);                                          \
    return next(CALL_lseek, of_descriptor(descriptor)) == FAIL ? -1 : real(descriptor, offset, from); \
  }
SEEK(lseek)
SEEK(lseek64)

#define MAP(name)                                                                 \
  EXPORTED void* name(void* at, size_t size, int protection, int flags, int descriptor, off_t offset) { \
    REAL(void*, #name, void*, size_t, int, int, int, off_t);                      \
    if (next(CALL_mmap, of_descriptor(descriptor)) == FAIL) return MAP_FAILED;    \
    return real(at, size, protection, flags, descriptor, offset);                 \
  }
MAP(mmap)
MAP(mmap64)

#define READDIR(name, type)                                                       \
  EXPORTED struct type* name(DIR* folder) {                                       \
    REAL(struct type*, #name, DIR*);                                              \
    return next(CALL_readdir, of_descriptor(dirfd(folder))) == FAIL ? NULL : real(folder); \
  }
READDIR(readdir, dirent)
READDIR(readdir64, dirent64)

// --- paths

#define ON_PATH(name, call, folder, declared, ...)                                \
  EXPORTED int name declared {                                                    \
    static int(*real) declared;                                                   \
    if (!real) *(void**)&real = dlsym(RTLD_NEXT, #name);                          \
    char whole[4096];                                                             \
    return next(call, of_path(folder, path, whole)) == FAIL ? -1 : real(__VA_ARGS__); \
  }
ON_PATH(rename, CALL_rename, AT_FDCWD, (const char* path, const char* to), path, to)
ON_PATH(renameat, CALL_rename, folder, (int folder, const char* path, int other, const char* to), folder, path, other, to)
ON_PATH(link, CALL_link, AT_FDCWD, (const char* path, const char* to), path, to)
ON_PATH(symlink, CALL_link, AT_FDCWD, (const char* from, const char* path), from, path)
ON_PATH(unlink, CALL_unlink, AT_FDCWD, (const char* path), path)
ON_PATH(unlinkat, CALL_unlink, folder, (int folder, const char* path, int flags), folder, path, flags)
ON_PATH(remove, CALL_unlink, AT_FDCWD, (const char* path), path)
ON_PATH(rmdir, CALL_unlink, AT_FDCWD, (const char* path), path)
ON_PATH(mkdir, CALL_mkdir, AT_FDCWD, (const char* path, mode_t mode), path, mode)
ON_PATH(mkdirat, CALL_mkdir, folder, (int folder, const char* path, mode_t mode), folder, path, mode)
ON_PATH(access, CALL_access, AT_FDCWD, (const char* path, int mode), path, mode)
ON_PATH(truncate, CALL_ftruncate, AT_FDCWD, (const char* path, off_t size), path, size)
ON_PATH(stat, CALL_stat, AT_FDCWD, (const char* path, struct stat* status), path, status)
ON_PATH(stat64, CALL_stat, AT_FDCWD, (const char* path, struct stat64* status), path, status)
ON_PATH(lstat, CALL_stat, AT_FDCWD, (const char* path, struct stat* status), path, status)
ON_PATH(lstat64, CALL_stat, AT_FDCWD, (const char* path, struct stat64* status), path, status)
ON_PATH(fstatat, CALL_stat, folder, (int folder, const char* path, struct stat* status, int flags), folder, path, status, flags)
ON_PATH(fstatat64, CALL_stat, folder, (int folder, const char* path, struct stat64* status, int flags), folder, path, status, flags)
ON_PATH(statx, CALL_stat, folder, (int folder, const char* path, int flags, unsigned mask, struct statx* status), folder, path, flags, mask, status)
