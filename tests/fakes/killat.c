/* LD_PRELOAD: SIGKILL at the N-th call that a change is made of, in the process that makes it.
 *
 * Counted are the opening, writing and syncing of the journal and of its folder, the renaming and removing of files
 * (a rename is how the fake NVML sets things), every sched_setaffinity and setpriority, and
 * what is sent through a socket; counting begins when a file named journal.jsonl, or one of QTOP_KILL_FILES, is first opened
 * for writing. Environment:
 *   QTOP_KILL_FROM_THE_START=1  count from the start: an undo changes things before it writes to the journal
 *   QTOP_KILL_AT=N     die at the N-th (counted from 1); 0 or unset: only tell
 *   QTOP_KILL_MODE     "before" (default) the call, "after" it, or "torn": a write of which half is done, else before
 *   QTOP_KILL_FILES=…  more files whose opening and writing count, with colons between them
 *   QTOP_KILL_PID=PID  this process dies instead; the caller goes on
 *   QTOP_KILL_SLEEP=S  sleep so many seconds at that call; nobody dies
 *   QTOP_KILL_LOG=FILE one line for each call: its number and its name, written before anything else happens
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FDS 4096

static atomic_int armed, calls;
static atomic_char journal[FDS];

static int is_armed(void) { return atomic_load(&armed) || getenv("QTOP_KILL_FROM_THE_START") != NULL; }

static int mode_is(const char *mode) {
    const char *given = getenv("QTOP_KILL_MODE");
    return strcmp(given ? given : "before", mode) == 0;
}

/* Through syscall(2): the log's own calls must not be counted. */
static void tell(int number, const char *name) {
    const char *path = getenv("QTOP_KILL_LOG");
    if (!path)
        return;
    char line[64];
    int length = snprintf(line, sizeof line, "%d %s\n", number, name);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        syscall(SYS_write, fd, line, (size_t)length);
        syscall(SYS_close, fd);
    }
}

static void die(void) {
    const char *seconds = getenv("QTOP_KILL_SLEEP");
    if (seconds) {
        usleep((useconds_t)(atof(seconds) * 1e6));
        return;
    }
    const char *other = getenv("QTOP_KILL_PID");
    syscall(SYS_kill, other ? atoi(other) : getpid(), SIGKILL);
    if (other) {
        usleep(50000); /* for its ends of the pipes to close */
        return;
    }
    for (;;)
        pause();
}

/* Counts a call; true if this is the one. */
static int reached(const char *name) {
    const char *at = getenv("QTOP_KILL_AT");
    int number = atomic_fetch_add(&calls, 1) + 1;
    tell(number, name);
    return at && atoi(at) == number;
}

/* CALL is made unless this is where to die before it. */
#define AT(name, type, CALL)                                                                                           \
    do {                                                                                                               \
        int here = reached(name);                                                                                      \
        if (here && !mode_is("after"))                                                                                 \
            die();                                                                                                     \
        type result = CALL;                                                                                            \
        if (here && mode_is("after"))                                                                                  \
            die();                                                                                                     \
        return result;                                                                                                 \
    } while (0)

/* Whether QTOP_KILL_FILES has this path. */
static int is_listed(const char *path, size_t length) {
    const char *list = getenv("QTOP_KILL_FILES");
    while (list && *list) {
        size_t here = strcspn(list, ":");
        if (here == length && strncmp(list, path, length) == 0)
            return 1;
        list += here + (list[here] == ':');
    }
    return 0;
}

static int is_journal(const char *path, int flags) {
    size_t length = path ? strlen(path) : 0;
    const char *name = "/journal.jsonl";
    if (!path || (flags & O_ACCMODE) == O_RDONLY)
        return 0;
    return (length >= strlen(name) && strcmp(path + length - strlen(name), name) == 0) || is_listed(path, length);
}

/* The kernel takes a value of its own whole or not at all; what lies on a disk may be torn. */
static int is_whole(const char *path) {
    size_t length = strlen(path);
    return is_listed(path, length) && !(length > 4 && strcmp(path + length - 4, ".new") == 0);
}

static int opened(int fd, int whole) {
    if (fd >= 0 && fd < FDS)
        atomic_store(&journal[fd], whole ? 2 : 1);
    return fd;
}

static int ours(int fd) { return fd >= 0 && fd < FDS && atomic_load(&journal[fd]); }

static int do_open(int folder, const char *path, int flags, mode_t mode) {
    return (int)syscall(SYS_openat, folder, path, flags, mode);
}

static int open_journal(int folder, const char *path, int flags, mode_t mode) {
    atomic_store(&armed, 1);
    AT("open", int, opened(do_open(folder, path, flags, mode), is_whole(path)));
}

static int any_open(int folder, const char *path, int flags, mode_t mode) {
    return is_journal(path, flags) ? open_journal(folder, path, flags, mode) : do_open(folder, path, flags, mode);
}

#define MODE_ARGUMENT(flags)                                                                                           \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                             \
        va_list list;                                                                                                  \
        va_start(list, flags);                                                                                         \
        mode = va_arg(list, mode_t);                                                                                   \
        va_end(list);                                                                                                  \
    }

int open(const char *path, int flags, ...) {
    MODE_ARGUMENT(flags)
    return any_open(AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    MODE_ARGUMENT(flags)
    return any_open(folder, path, flags, mode);
}

int close(int fd) {
    if (ours(fd))
        atomic_store(&journal[fd], 0);
    return (int)syscall(SYS_close, fd);
}

static ssize_t torn_write(int fd, const void *data, size_t size) {
    syscall(SYS_write, fd, data, size / 2);
    die();
    return (ssize_t)(size / 2);
}

static ssize_t journal_write(int fd, const void *data, size_t size) {
    int here = reached("write");
    if (here && mode_is("torn") && atomic_load(&journal[fd]) == 1)
        return torn_write(fd, data, size);
    if (here && !mode_is("after"))
        die();
    ssize_t done = NEXT(write)(fd, data, size);
    if (here && mode_is("after"))
        die();
    return done;
}

ssize_t write(int fd, const void *data, size_t size) {
    return ours(fd) ? journal_write(fd, data, size) : NEXT(write)(fd, data, size);
}

static ssize_t journal_pwrite(int fd, const void *data, size_t size, off_t at) {
    AT("pwrite", ssize_t, (ssize_t)syscall(SYS_pwrite64, fd, data, size, at));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return ours(fd) ? journal_pwrite(fd, data, size, at) : (ssize_t)syscall(SYS_pwrite64, fd, data, size, at);
}

int fsync(int fd) {
    if (!is_armed())
        return NEXT(fsync)(fd);
    AT("fsync", int, NEXT(fsync)(fd));
}

int fdatasync(int fd) {
    if (!is_armed())
        return NEXT(fdatasync)(fd);
    AT("fdatasync", int, NEXT(fdatasync)(fd));
}

int rename(const char *from, const char *to) {
    if (!is_armed())
        return NEXT(rename)(from, to);
    AT("rename", int, NEXT(rename)(from, to));
}

int unlink(const char *path) {
    if (!atomic_load(&armed) && !is_listed(path, strlen(path)))
        return NEXT(unlink)(path);
    AT("unlink", int, NEXT(unlink)(path));
}

/* Before the journal is open there is nothing to undo from: one here is the worst that could happen, so it counts. */
int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set) {
    AT("sched_setaffinity", int, NEXT(sched_setaffinity)(pid, size, set));
}

#ifdef __GLIBC__
typedef __priority_which_t which_t;
#else
typedef int which_t;
#endif

int setpriority(which_t which, id_t who, int value) {
    AT("setpriority", int, (int)syscall(SYS_setpriority, which, who, value));
}

ssize_t send(int fd, const void *data, size_t size, int flags) {
    if (!is_armed())
        return NEXT(send)(fd, data, size, flags);
    AT("send", ssize_t, NEXT(send)(fd, data, size, flags));
}

#ifdef __GLIBC__ /* elsewhere these are other names of the same functions */
int open64(const char *path, int flags, ...) {
    MODE_ARGUMENT(flags)
    return any_open(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE_ARGUMENT(flags)
    return any_open(folder, path, flags | O_LARGEFILE, mode);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return pwrite(fd, data, size, (off_t)at); }
#endif
