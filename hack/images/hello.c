// A workload for tests, in one static program:
//   hello                 answers HTTP on :8080 with "hello from HOSTNAME", and writes a line to stdout for each request
//   hello sleep SECONDS   sleeps
//   hello echo WORD...    prints its arguments
//   hello cat             copies stdin to stdout
//   hello get HOST PORT   prints what an HTTP server answers to GET /, HOST by name or address
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void end(int signal) { _exit(signal == SIGTERM ? 0 : 128 + signal); }

static int serve(void) {
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  int on = 1, off = 0, listener = socket(AF_INET6, SOCK_STREAM, 0);
  struct sockaddr_in6 both = {.sin6_family = AF_INET6, .sin6_port = htons(8080), .sin6_addr = IN6ADDR_ANY_INIT};
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(8080), .sin_addr.s_addr = INADDR_ANY};
  int six = listener >= 0;
  // A kernel without IPv6.
  if (!six) listener = socket(AF_INET, SOCK_STREAM, 0);
  if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
      (six && setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off)) ||
      bind(listener, six ? (struct sockaddr *)&both : (struct sockaddr *)&four, six ? sizeof both : sizeof four) || listen(listener, 16)) {
    perror("hello");
    return 1;
  }
  printf("hello: %s listens on :8080\n", name);
  for (unsigned count = 1;; count++) {
    int connection = accept(listener, NULL, NULL);
    if (connection < 0) continue;
    char request[4096], body[300], answer[512];
    ssize_t size = read(connection, request, sizeof request - 1);
    request[size > 0 ? size : 0] = '\0';
    request[strcspn(request, "\r\n")] = '\0';
    printf("hello: request %u: %s\n", count, request);
    int length = snprintf(body, sizeof body, "hello from %s\n", name);
    int total = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", length, body);
    if (write(connection, answer, (size_t)total) < 0) perror("hello");
    close(connection);
  }
}

static int copy(int from) {
  char part[65536];
  for (ssize_t size; (size = read(from, part, sizeof part)) > 0;)
    if (write(STDOUT_FILENO, part, (size_t)size) != size) return 1;
  return 0;
}

static int get(const char *host, const char *port) {
  struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found;
  int failure = getaddrinfo(host, port, &hints, &found);
  if (failure) {
    fprintf(stderr, "hello: %s: %s\n", host, gai_strerror(failure));
    return 1;
  }
  for (; found; found = found->ai_next) {
    int connection = socket(found->ai_family, found->ai_socktype, 0);
    if (connection >= 0 && connect(connection, found->ai_addr, found->ai_addrlen) == 0) {
      dprintf(connection, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host);
      return copy(connection);
    }
    close(connection);
  }
  perror("hello: connect");
  return 1;
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  signal(SIGTERM, end);
  signal(SIGINT, end);
  signal(SIGPIPE, SIG_IGN);
  if (argc == 1) return serve();
  if (strcmp(argv[1], "sleep") == 0 && argc == 3) {
    for (unsigned left = (unsigned)atoi(argv[2]); left > 0;) left = sleep(left);
    return 0;
  }
  if (strcmp(argv[1], "echo") == 0) {
    for (int i = 2; i < argc; i++) printf("%s%s", argv[i], i + 1 < argc ? " " : "");
    puts("");
    return 0;
  }
  if (strcmp(argv[1], "cat") == 0) return copy(STDIN_FILENO);
  if (strcmp(argv[1], "get") == 0 && argc == 4) return get(argv[2], argv[3]);
  fprintf(stderr, "usage: hello [sleep SECONDS | echo WORD... | cat | get HOST PORT]\n");
  return 2;
}
