/* Writes down, and refuses, every attempt to reach another address than those of DIALLED_ALLOW (numeric, comma-separated).
   Preloaded (LD_PRELOAD), so that it sees Python, Arrow and Rust alike, and every child. Names that are looked up are attempts
   too. One line an attempt in the file DIALLED: "connect 169.254.169.254 80", "lookup evil.example". Unix sockets are free. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void note(const char *how, const char *where, int port) {
  const char *path = getenv("DIALLED");
  if (!path) return;
  char line[1200];
  int n = snprintf(line, sizeof line, "%s %.1000s %d\n", how, where, port);
  int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return;
  if (write(fd, line, n) < 0) {}
  close(fd);
}
static int allowed(const char *where) {
  const char *list = getenv("DIALLED_ALLOW");
  if (!list) return 0;
  size_t n = strlen(where);
  for (const char *at = list; (at = strstr(at, where)); at += n)
    if ((at == list || at[-1] == ',') && (at[n] == 0 || at[n] == ',')) return 1;
  return 0;
}
static int refused(const char *how, const struct sockaddr *to) {
  char where[INET6_ADDRSTRLEN] = "";
  int port;
  if (!to) return 0;
  if (to->sa_family == AF_INET) {
    const struct sockaddr_in *in = (const void *)to;
    inet_ntop(AF_INET, &in->sin_addr, where, sizeof where);
    port = ntohs(in->sin_port);
  } else if (to->sa_family == AF_INET6) {
    const struct sockaddr_in6 *in = (const void *)to;
    inet_ntop(AF_INET6, &in->sin6_addr, where, sizeof where);
    port = ntohs(in->sin6_port);
  } else
    return 0;
  if (allowed(where)) return 0;
  note(how, where, port);
  errno = ENETUNREACH;
  return 1;
}

int connect(int fd, const struct sockaddr *to, socklen_t n) { return refused("connect", to) ? -1 : NEXT(connect)(fd, to, n); }
ssize_t sendto(int fd, const void *b, size_t n, int f, const struct sockaddr *to, socklen_t l) {
  return refused("sendto", to) ? -1 : NEXT(sendto)(fd, b, n, f, to, l);
}
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  if (node && !(hints && hints->ai_flags & AI_NUMERICHOST) && !allowed(node)) {
    note("lookup", node, 0);
    return EAI_NONAME;
  }
  return NEXT(getaddrinfo)(node, service, hints, found);
}
