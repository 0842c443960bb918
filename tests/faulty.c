/* Makes the disk refuse, or the process die, at its n-th write, fsync or rename. Preloaded (LD_PRELOAD), so that it reaches
   Python, Arrow and Rust alike. Off until fault_arm(n, how, steps, under): n counts from 1 the calls that touch paths below
   `under` (with steps: only fsync and rename); how > 0 is the errno of that one call, how < 0 of that call and all later ones,
   0 kills the process before the call. fault_count() says how many there were. clock_jump(n, seconds): from the n-th look at the
   clock on it shows so many seconds more (or less); clock_looks() says how many there were. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static long armed = 0, seen = 0;
static int how = 0, only_steps = 0;
static char under[4096] = "";
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

void fault_arm(long n, int h, int steps, const char *path) {
  strncpy(under, path, sizeof under - 1);
  armed = n; how = h; only_steps = steps; seen = 0;
}
long fault_count(void) { return seen; }

static long jumps_at = 0, looks = 0, jump = 0;
void clock_jump(long n, long seconds) { jumps_at = n; jump = seconds; looks = 0; }
long clock_looks(void) { return looks; }
static long shift(void) { return jump && __sync_add_and_fetch(&looks, 1) >= jumps_at ? jump : 0; }

__attribute__((constructor)) static void from_environment(void) {
  const char *n = getenv("FAULT_AT"), *h = getenv("FAULT_HOW"), *path = getenv("FAULT_UNDER");
  if (n && h && path) fault_arm(atol(n), atoi(h), 0, path);
  const char *seconds = getenv("CLOCK_JUMP");
  if (seconds) clock_jump(1, atol(seconds));
}

static int strikes(const char *path, int step) {
  if (!under[0] || (only_steps && !step) || strncmp(path, under, strlen(under)) != 0) return 0;
  pthread_mutex_lock(&gate);
  long n = ++seen;
  pthread_mutex_unlock(&gate);
  if (!armed || (how < 0 ? n < armed : n != armed)) return 0;
  if (how == 0) kill(getpid(), SIGKILL);
  errno = abs(how);
  return 1;
}
static int strikes_fd(int fd, int step) {
  if (!under[0]) return 0;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return strikes(path, step);
}
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *b, size_t n) { return strikes_fd(fd, 0) ? -1 : NEXT(write)(fd, b, n); }
ssize_t writev(int fd, const struct iovec *v, int n) { return strikes_fd(fd, 0) ? -1 : NEXT(writev)(fd, v, n); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { return strikes_fd(fd, 0) ? -1 : NEXT(pwrite)(fd, b, n, o); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { return strikes_fd(fd, 0) ? -1 : NEXT(pwrite64)(fd, b, n, o); }
int fsync(int fd) { return strikes_fd(fd, 1) ? -1 : NEXT(fsync)(fd); }
int fdatasync(int fd) { return strikes_fd(fd, 1) ? -1 : NEXT(fdatasync)(fd); }
int rename(const char *a, const char *b) { return strikes(b, 1) ? -1 : NEXT(rename)(a, b); }
int link(const char *a, const char *b) { return strikes(b, 1) ? -1 : NEXT(link)(a, b); }

int clock_gettime(clockid_t which, struct timespec *t) {
  int done = NEXT(clock_gettime)(which, t);
  if (!done && jump && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) t->tv_sec += shift();
  return done;
}
int gettimeofday(struct timeval *t, void *zone) {
  int done = NEXT(gettimeofday)(t, zone);
  if (!done && jump) t->tv_sec += shift();
  return done;
}
time_t time(time_t *t) {
  time_t now = NEXT(time)(NULL) + (jump ? shift() : 0);
  if (t) *t = now;
  return now;
}
