// prefork is a server of several processes: a master forks workers, each an event loop,
// and serves nobody itself. The listener is shared, or with REUSEPORT=1 each worker has
// one of its own.
//
//	gcc -O1 -o prefork prefork.c && WORKERS=4 ./prefork PORT SECONDS
//
// SECONDS is how long a request may take.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <sys/wait.h>
#include <sys/prctl.h>
#define MAXREQ 8192
#define LINGER_MS 1000
#define LINGER_BYTES (1 << 20)
static const char ANSWER[] = "HTTP/1.0 200 OK\r\nDate: Mon, 1 Jan 1996 01:01:01 GMT\r\n"
    "Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!";
static const char REFUSAL[] = "HTTP/1.0 431 Request Header Fields Too Large\r\nContent-Length: 0\r\n\r\n";

enum { READING, WRITING, LINGERING };
typedef struct conn {
    int fd, state, alive;
    uint32_t events;
    long long deadline; // 0: none
    const char *out;
    size_t len, sent, drained;
    char *buf;
    struct conn *next, *prev, *nextdead;
} conn;
static conn all = {.next = &all, .prev = &all}, *dead;
static int ep, listener, sigfd, stopping, paused;
static long long retry_at;
static int seconds = 60;
static pid_t kids[64]; static int nkids;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}
static void watch(conn *c, uint32_t events) {
    if (c->events == events) return;
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
    c->events = events;
}
static void finish(conn *c) {
    if (!c->alive) return;
    c->alive = 0;
    close(c->fd);
    free(c->buf);
    c->prev->next = c->next;
    c->next->prev = c->prev;
    c->nextdead = dead;
    dead = c; // freed after the batch
}
static void begin_linger(conn *c) {
    if (shutdown(c->fd, SHUT_WR) < 0) { finish(c); return; }
    c->state = LINGERING;
    c->deadline = now() + LINGER_MS;
    watch(c, EPOLLIN);
}
static void do_write(conn *c) {
    size_t n = strlen(c->out);
    while (c->sent < n) {
        ssize_t w = send(c->fd, c->out + c->sent, n - c->sent, MSG_NOSIGNAL);
        if (w < 0) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN) { watch(c, EPOLLOUT); return; }
            finish(c);
            return;
        }
        c->sent += w;
    }
    begin_linger(c);
}
static int complete(conn *c, size_t from) {
    for (size_t i = from; i < c->len; i++) {
        if (c->buf[i] != '\n') continue;
        if (i + 1 < c->len && c->buf[i + 1] == '\n') return 1;
        if (i + 2 < c->len && c->buf[i + 1] == '\r' && c->buf[i + 2] == '\n') return 1;
    }
    return 0;
}
static void answer(conn *c, const char *what) {
    c->out = what;
    c->state = WRITING;
    c->deadline = now() + 10000;
    do_write(c);
}
static void do_read(conn *c) {
    ssize_t r = recv(c->fd, c->buf + c->len, MAXREQ - c->len, 0);
    if (r < 0) {
        if (errno != EAGAIN && errno != EINTR) finish(c);
        return;
    }
    if (r == 0) { finish(c); return; }
    size_t from = c->len > 2 ? c->len - 2 : 0;
    c->len += r;
    if (complete(c, from)) answer(c, ANSWER);
    else if (c->len == MAXREQ) answer(c, REFUSAL);
}
static void do_drain(conn *c) {
    char trash[16384];
    ssize_t r = recv(c->fd, trash, sizeof trash, 0);
    if (r < 0) {
        if (errno != EAGAIN && errno != EINTR) finish(c);
        return;
    }
    c->drained += r;
    if (r == 0 || c->drained > LINGER_BYTES) finish(c);
}
static void on_event(conn *c, uint32_t events) {
    (void)events;
    if (!c->alive) return;
    if (c->state == READING) do_read(c);
    else if (c->state == WRITING) do_write(c);
    else do_drain(c);
}
static void do_accept(void) {
    for (int i = 0; i < 64; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN) return;
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                struct epoll_event e = {.events = 0, .data.ptr = &listener};
                epoll_ctl(ep, EPOLL_CTL_MOD, listener, &e);
                paused = 1;
                retry_at = now() + 100;
                return;
            }
            continue;
        }
        conn *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->alive = 1;
        c->buf = malloc(MAXREQ);
        c->deadline = now() + seconds * 1000LL;
        c->events = EPOLLIN;
        c->next = all.next; c->prev = &all;
        all.next->prev = c; all.next = c;
        struct epoll_event e = {.events = c->events, .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
    }
}
int main(int argc, char **argv) {
    if (argc > 2) seconds = atoi(argv[2]);
    struct rlimit rl;
    getrlimit(RLIMIT_NOFILE, &rl);
    rl.rlim_cur = rl.rlim_max;
    setrlimit(RLIMIT_NOFILE, &rl);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int workers = getenv("WORKERS") ? atoi(getenv("WORKERS")) : 2, delay = getenv("DELAY") ? atoi(getenv("DELAY")) : 0;
    int reuse = getenv("REUSEPORT") != NULL;
    if (reuse) goto forking;
listening:
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (reuse) setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (void *)&a, sizeof a) < 0 || listen(listener, 4096) < 0) { perror("listen"); return 1; }
    if (reuse) goto serving;
    usleep(delay * 1000);
forking:
    for (int i = 0; i < workers; i++) {
        pid_t p = fork();
        if (p == 0) { prctl(PR_SET_PDEATHSIG, SIGKILL); nkids = -1; break; }
        kids[nkids++] = p;
    }
    if (nkids > 0) { // the master waits for a signal, passes it on, and waits for its workers
        int sig;
        while (sigwait(&set, &sig)) ;
        for (int i = 0; i < nkids; i++) kill(kids[i], SIGTERM);
        while (wait(NULL) > 0) ;
        return 0;
    }
    if (reuse) goto listening;
serving:
    sigfd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &listener};
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
    e.data.ptr = &sigfd;
    epoll_ctl(ep, EPOLL_CTL_ADD, sigfd, &e);
    for (;;) {
        long long t = now(), first = paused ? retry_at : 0;
        for (conn *c = all.next; c != &all; c = c->next)
            if (c->deadline && (!first || c->deadline < first)) first = c->deadline;
        int timeout = !first ? -1 : first <= t ? 0 : (int)(first - t);
        struct epoll_event evs[64];
        int n = epoll_wait(ep, evs, 64, timeout);
        if (n < 0 && errno != EINTR) { perror("epoll_wait"); return 1; }
        int again = 0;
        for (int i = 0; i < n; i++) {
            void *p = evs[i].data.ptr;
            if (p == &listener) again = 1;
            else if (p == &sigfd) stopping = 1;
            else on_event(p, evs[i].events);
        }
        if (stopping) { // answer what is complete, drop the rest
            for (conn *c = all.next, *next; c != &all; c = next) {
                next = c->next;
                if (c->state == READING) do_read(c);
            }
            long long until = now() + 1000;
            while (now() < until) {
                int busy = 0;
                for (conn *c = all.next, *next; c != &all; c = next) {
                    next = c->next;
                    if (c->state == READING) continue;
                    on_event(c, 0);
                    busy++;
                }
                if (!busy) break;
                usleep(2000);
            }
            return 0;
        }
        t = now();
        for (conn *c = all.next, *next; c != &all; c = next) {
            next = c->next;
            if (c->deadline && c->deadline <= t) finish(c);
        }
        if (again || (paused && (dead || t >= retry_at))) {
            if (paused) {
                struct epoll_event l = {.events = EPOLLIN, .data.ptr = &listener};
                epoll_ctl(ep, EPOLL_CTL_MOD, listener, &l);
                paused = 0;
            }
            do_accept();
        }
        while (dead) { conn *c = dead; dead = c->nextdead; free(c); }
    }
}
