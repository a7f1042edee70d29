// loop is an event loop that is right, and with one of the macros below has one fault:
//
//	gcc -O1 -DIN_ELSE_IF_OUT -o loop loop.c && ./loop PORT SECONDS
//
// SECONDS is how long a request may take. Each fault was reported for a real program; the
// table in faults_test.go names the report, the case that the fault fails, and the cause.
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
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined TIMEOUT_IN_WHOLE_SECONDS || defined REFUSED_NOT_DRAINED
#define LINGER 2900 // ms: long enough for a spin to be watched on a busy machine
#else
#define LINGER 1000
#endif
#ifdef DIES_OF_SIGPIPE
#define SEND_FLAGS 0
#else
#define SEND_FLAGS MSG_NOSIGNAL
#endif
#define MAX_REQUEST 8192
#define MAX_DRAINED (1 << 20)
#define MAX_DESCRIPTORS 65536

static const char ANSWER[] =
    "HTTP/1.0 200 OK\r\nDate: Mon, 1 Jan 1996 01:01:01 GMT\r\n"
    "Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!";
static const char REFUSAL[] =
    "HTTP/1.0 431 Request Header Fields Too Large\r\nContent-Length: 0\r\n\r\n";

enum state { READING, WAITING, WRITING, LINGERING };

struct conn {
    int fd;
    enum state state;
    int alive, was_reset;
    uint32_t interest;
    long long deadline; // in ms, 0 for none
    const char *out;
    size_t len, sent, drained;
    char buffer[MAX_REQUEST];
    struct conn *next, *prev, *next_dead, *next_complete;
};

static struct conn all = {.next = &all, .prev = &all};
static struct conn *dead; // freed after the batch of events
static int epoll, listener, signals;
static int paused; // accept has failed, and is tried again at retry_at
static long long retry_at;
static int seconds = 60;

// The timers of the faults, by descriptor.
static long long timer[MAX_DESCRIPTORS];
static int last_descriptor;
// A housekeeping timer, for a fault.
static long long housekeeping;
// Accept has failed, and has succeeded since, for a fault.
static int recovered;
// A handler has been called, for a fault.
static volatile sig_atomic_t asked;
// What has been completed, for a fault.
static struct conn *complete_first;
static int wakeup = -1;

#ifdef EDGE
#define INTEREST_AT_FIRST (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
#elif defined ONESHOT
#define INTEREST_AT_FIRST (EPOLLIN | EPOLLONESHOT)
#elif defined ASKS_FOR_URGENT_DATA
#define INTEREST_AT_FIRST (EPOLLIN | EPOLLPRI)
#else
#define INTEREST_AT_FIRST EPOLLIN
#endif

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void watch(struct conn *c, uint32_t interest) {
#ifdef EDGE
    return; // everything has been registered once
#elif defined ASKS_FOR_URGENT_DATA
    if (interest & EPOLLIN) interest |= EPOLLPRI;
    if (c->interest == interest) return;
#elif defined ONESHOT
    interest |= EPOLLONESHOT; // so it must be armed again after each event
#else
    if (c->interest == interest) return;
#endif
    struct epoll_event e = {.events = interest, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
    c->interest = interest;
}

static void finish(struct conn *c) {
    if (!c->alive) return;
#ifdef HUP_WITH_INTEREST_0
    char rest[65536]; // it reads what came meanwhile, so that close sends no reset
    if (c->state == LINGERING)
        for (int i = 0; i < 64 && recv(c->fd, rest, sizeof rest, 0) > 0; i++) {}
#endif
    c->alive = 0;
#ifdef LEAKS
    if (c->state == READING) epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, NULL);
    else
#endif
        close(c->fd);
    c->prev->next = c->next;
    c->next->prev = c->prev;
    c->next_dead = dead;
    dead = c;
}

static void linger(struct conn *c) {
#ifndef NO_SHUTDOWN
    if (shutdown(c->fd, SHUT_WR) < 0) {
        finish(c);
        return;
    }
#endif
    c->state = LINGERING;
    c->deadline = now() + LINGER;
#ifdef TIMER_BY_DESCRIPTOR
    if (!timer[c->fd]) timer[c->fd] = c->deadline; // and nothing cancels it
    c->deadline = 0;
#endif
#ifdef NO_LINGER_TIMER
    c->deadline = 0;
#endif
#ifdef HUP_WITH_INTEREST_0
    watch(c, 0); // "of no interest until it is time to close"
#elif defined ONESHOT_NOT_ARMED_TO_LINGER
#else
    watch(c, EPOLLIN);
#endif
}

static void send_answer(struct conn *c) {
    size_t n = strlen(c->out);
#ifdef BLOCKING_SEND
    fcntl(c->fd, F_SETFL, 0);
#endif
    while (c->sent < n) {
        ssize_t w = send(c->fd, c->out + c->sent, n - c->sent, SEND_FLAGS);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0 && errno == EAGAIN) {
#ifdef END_OF_FILE_PASSED_OVER
            watch(c, EPOLLOUT | EPOLLRDHUP);
#elif defined BYTES_PASSED_OVER
            watch(c, EPOLLOUT | EPOLLIN);
#elif defined END_OF_FILE_DROPS_ANSWER
            watch(c, EPOLLOUT | EPOLLIN);
#elif defined ONESHOT_NOT_ARMED_TO_SEND
#else
            watch(c, EPOLLOUT);
#endif
            return;
        }
        if (w < 0) {
#ifdef LEAKS_WHEN_SEND_FAILS
            epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, NULL);
            c->state = WAITING, c->deadline = 0;
            return;
#endif
            finish(c);
            return;
        }
        c->sent += w;
    }
#ifdef BLOCKING_SEND
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
#endif
    linger(c);
}

static void answer(struct conn *c, const char *what) {
    c->out = what;
    c->state = WRITING;
    c->deadline = now() + 10000;
    send_answer(c);
}

static void complete(struct conn *c) {
#ifdef CONNECTION_INHERITED
    static int helper;
    if (!helper++ && fork() == 0) execlp("sleep", "sleep", "30", NULL);
#endif
#ifdef HELPERS_NOT_WAITED_FOR
    if (fork() == 0) _exit(0); // it "writes the log"
#endif
#ifdef ONE_COMPLETION_FOR_EACH_WAKEUP
    uint64_t one = 1; // a thread that computes the answer would do this
    c->state = WAITING;
    c->next_complete = complete_first;
    complete_first = c;
    if (write(wakeup, &one, sizeof one) < 0) perror("eventfd");
    return;
#endif
    answer(c, ANSWER);
}

static int is_complete(struct conn *c) {
    return memmem(c->buffer, c->len, "\n\n", 2) || memmem(c->buffer, c->len, "\n\r\n", 3);
}

// read_request reads until EAGAIN, as edge-triggered epoll demands.
static void read_request(struct conn *c) {
    for (;;) {
        ssize_t r = recv(c->fd, c->buffer + c->len, MAX_REQUEST - c->len, 0);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0 && errno == EAGAIN) {
#ifndef ONESHOT_NOT_ARMED_TO_READ
            watch(c, EPOLLIN);
#endif
            return;
        }
        if (r <= 0) {
            c->was_reset = r < 0;
            finish(c);
            return;
        }
#ifdef DEADLINE_FROM_FIRST_BYTE
        if (!c->len) c->deadline = now() + seconds * 1000LL;
#endif
        c->len += r;
        if (is_complete(c)) {
            complete(c);
            return;
        }
        if (c->len == MAX_REQUEST) {
            answer(c, REFUSAL);
            return;
        }
    }
}

// drain discards what comes after the request. While the answer waits for room, the
// connection stays open at end of file: the client may still read.
static void drain(struct conn *c) {
    char rest[16384];
    for (;;) {
        ssize_t r = recv(c->fd, rest, sizeof rest, 0);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0 && errno == EAGAIN) {
            if (c->state == LINGERING) watch(c, EPOLLIN);
            return;
        }
#ifndef END_OF_FILE_DROPS_ANSWER
        if (r == 0 && c->state != LINGERING) return;
#endif
        if (r <= 0 || (c->drained += r) > MAX_DRAINED) {
            finish(c);
            return;
        }
    }
}

static void on_event(struct conn *c, uint32_t events) {
    (void)events; // only some faults look at them: what there is to do, each call shows
    if (!c->alive) return;
#ifdef ASKS_FOR_URGENT_DATA
    if (events == EPOLLPRI) return; // and reading would take notice of it
#endif
#ifdef END_OF_FILE_COMES_FIRST
    if (events & EPOLLRDHUP) { // "the client has left"
        finish(c);
        return;
    }
#endif
#ifdef IN_ELSE_IF_OUT
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        if (c->state == READING) read_request(c);
        else drain(c);
    } else if (events & EPOLLOUT) {
        if (c->state == WRITING) send_answer(c);
    }
    return;
#endif
    if (c->state == READING) read_request(c);
    else if (c->state == WRITING) {
#if defined END_OF_FILE_PASSED_OVER || defined BYTES_PASSED_OVER
        if (!(events & (EPOLLOUT | EPOLLHUP | EPOLLERR))) return;
#endif
        send_answer(c);
#ifdef END_OF_FILE_DROPS_ANSWER
        if (c->alive && c->state == WRITING) drain(c);
#endif
    }
#ifdef REFUSED_NOT_DRAINED
    if (c->out == REFUSAL) return;
#endif
// Whether the client's end of file has come already depends on which side is faster.
#if !defined HUP_WITH_INTEREST_0 && !defined ONESHOT_NOT_ARMED_TO_LINGER
    if (c->alive && c->state == LINGERING) drain(c);
#endif
}

static void watch_listener(int op, uint32_t interest) {
#ifdef ACCEPT_FAILURE_WAITS
    if (interest) interest |= EPOLLET;
#endif
    struct epoll_event e = {.events = interest, .data.ptr = &listener};
    epoll_ctl(epoll, op, listener, &e);
}

static void accept_all(void) {
#ifdef CONNECTION_INHERITED
    const int flags = SOCK_NONBLOCK;
#else
    const int flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
#endif
    for (int i = 0; i < 64; i++) {
        int fd = accept4(listener, NULL, NULL, flags);
        if (fd < 0 && errno == EAGAIN) return;
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
            watch_listener(EPOLL_CTL_MOD, 0);
#ifndef LISTENER_NOT_ARMED_AGAIN
            paused = 1;
            retry_at = now() + 100;
#endif
            return;
        }
#ifdef ACCEPT_FAILURE_ENDS
        if (fd < 0) {
            perror("accept4");
            exit(1);
        }
#endif
#ifdef ACCEPT_FAILURE_WAITS
        if (fd < 0) return;
#endif
        if (fd < 0) continue;
#ifdef LINGERS_IN_CLOSE
        struct linger l = {.l_onoff = 1, .l_linger = 30};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
#endif
        struct conn *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->alive = 1;
        c->deadline = now() + seconds * 1000LL;
#ifdef DEADLINE_BY_DESCRIPTOR
        if (!timer[fd]) timer[fd] = c->deadline; // and nothing cancels it
        c->deadline = 0;
#endif
#ifdef DEADLINE_FROM_FIRST_BYTE
        c->deadline = 0;
#endif
        if (fd > last_descriptor) last_descriptor = fd;
        c->interest = INTEREST_AT_FIRST;
        c->next = all.next;
        c->prev = &all;
        all.next->prev = c;
        all.next = c;
        struct epoll_event e = {.events = c->interest, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
    }
}

// next_deadline returns when to wake up, in ms; 0 for never.
static long long next_deadline(void) {
    long long first = paused ? retry_at : 0;
    for (struct conn *c = all.next; c != &all; c = c->next)
        if (c->deadline && (!first || c->deadline < first)) first = c->deadline;
    for (int fd = 0; fd <= last_descriptor; fd++)
        if (timer[fd] && (!first || timer[fd] < first)) first = timer[fd];
    if (housekeeping && (!first || housekeeping < first)) first = housekeeping;
    return first;
}

static int timeout(void) {
#ifdef NEVER_SLEEPS
    return 0;
#endif
    long long first = next_deadline(), t = now();
    if (recovered) return 0;
    if (!first) return -1;
#ifdef TIMERS_ONLY_WHEN_IDLE
    return 100;
#endif
    if (first <= t) return 0;
#ifdef TIMEOUT_IN_WHOLE_SECONDS
    if (!paused) return (int)((first - t) / 1000) * 1000;
#endif
    return (int)(first - t);
}

static void end_overdue(void) {
    long long t = now();
#ifdef ONE_TIMER
    static int fired; // it was set for the first connection, and is not set again
    for (struct conn *c = all.next; c != &all && !fired; c = c->next)
        if (c->deadline && c->deadline <= t) fired = 2;
    if (fired == 1) return;
    if (fired) fired = 1;
#endif
    for (struct conn *c = all.next, *next; c != &all; c = next) {
        next = c->next;
        int overdue = c->deadline && c->deadline <= t;
#ifdef OVERDUE_NOT_CLOSED
        if (overdue && c->state == READING) {
            shutdown(c->fd, SHUT_WR);
            c->state = LINGERING, c->deadline = 0;
            continue;
        }
#endif
        if (overdue || (timer[c->fd] && timer[c->fd] <= t)) finish(c);
    }
    for (int fd = 0; fd <= last_descriptor; fd++)
        if (timer[fd] && timer[fd] <= t) timer[fd] = 0;
}

// answer_rest answers what is complete when the server is asked to end.
static void answer_rest(void) {
    for (struct conn *c = all.next, *next; c != &all; c = next) {
        next = c->next;
        if (c->state == READING) read_request(c);
    }
#ifdef DROPS_UNSENT_AT_THE_END
    return;
#endif
#ifdef WAITS_FOR_LINGERERS
    for (;; usleep(2000)) {
#else
    for (long long until = now() + 1000; now() < until; usleep(2000)) {
#endif
        int busy = 0;
        for (struct conn *c = all.next, *next; c != &all; c = next) {
            next = c->next;
            if (c->state == READING) continue;
            on_event(c, 0);
            busy = 1;
        }
        if (!busy) return;
    }
}

// listen_at makes the listener.
static void listen_at(int port) {
#if defined LISTENER_INHERITED || defined HELPER_OF_A_MOMENT
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
#else
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
#endif
    int one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
#ifdef REUSEPORT
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
#endif
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (void *)&a, sizeof a) < 0 || listen(listener, 4096) < 0) {
        perror("listen");
        exit(1);
    }
}

#ifdef FLAG_OF_SIGNAL
static void on_signal(int signal) {
    (void)signal;
    asked = 1;
}
#endif

#ifdef WORKERS
// work starts the workers and returns in each. The master waits for a signal, hands it on,
// and waits for them.
static void work(const sigset_t *set) {
    pid_t workers[WORKERS];
    usleep(300000); // it reads its configuration
    for (int i = 0; i < WORKERS; i++) {
        if ((workers[i] = fork()) == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            return;
        }
    }
    int signal;
#ifdef STARTS_WORKERS_AGAIN
    sigset_t with_children = *set;
    sigaddset(&with_children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &with_children, NULL);
    while (sigwait(&with_children, &signal) == 0 && signal == SIGCHLD) {
        pid_t ended = waitpid(-1, NULL, WNOHANG);
        for (int i = 0; i < WORKERS; i++) {
            if (workers[i] == ended && (workers[i] = fork()) == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                return;
            }
        }
    }
#else
    sigwait(set, &signal);
#endif
    for (int i = 0; i < WORKERS; i++) kill(workers[i], SIGTERM);
    while (wait(NULL) > 0) {}
    exit(0);
}
#endif

int main(int argc, char **argv) {
    if (argc > 2) seconds = atoi(argv[2]);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
#ifdef REUSEPORT
    work(&set);
    listen_at(atoi(argv[1]));
#else
    listen_at(atoi(argv[1]));
#ifdef WORKERS
    work(&set);
#endif
#endif
#ifdef FLAG_OF_SIGNAL
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    sigemptyset(&set); // no signal comes as an event
#endif
    signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    watch_listener(EPOLL_CTL_ADD, EPOLLIN);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &signals};
    epoll_ctl(epoll, EPOLL_CTL_ADD, signals, &e);
#ifdef ONE_COMPLETION_FOR_EACH_WAKEUP
    wakeup = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    e.data.ptr = &wakeup;
    epoll_ctl(epoll, EPOLL_CTL_ADD, wakeup, &e);
#endif
#ifdef LISTENER_INHERITED
    if (fork() == 0) execlp("sleep", "sleep", "30", NULL);
#endif
#ifdef HELPER_OF_A_MOMENT // which is no fault: it ends soon
    if (fork() == 0) execlp("sleep", "sleep", "0.15", NULL);
#endif
#ifdef DEADLINE_NEVER_REMOVED
    housekeeping = now() + 2000; // it has no other turn, and is not removed after it
#endif
    for (int stopping = 0; !stopping && !asked;) {
        struct epoll_event events[64];
        int n = epoll_wait(epoll, events, 64, timeout());
        if (n < 0 && errno != EINTR) {
            perror("epoll_wait");
            return 1;
        }
        int more = 0;
        for (int i = 0; i < n; i++) {
            void *of = events[i].data.ptr;
            if (of == &listener) more = 1;
            else if (of == &signals) stopping = 1;
            else if (of == &wakeup) {
                uint64_t count; // of all wake-ups, and reading sets it to 0
                if (read(wakeup, &count, sizeof count) > 0 && complete_first) {
                    struct conn *c = complete_first;
                    complete_first = c->next_complete;
                    if (c->alive) answer(c, ANSWER);
                }
            } else on_event(of, events[i].events);
        }
#ifdef TIMERS_ONLY_WHEN_IDLE
        if (n == 0)
#endif
            end_overdue();
        if (more || (paused && (dead || now() >= retry_at))) {
#ifdef TRIES_ACCEPT_FOREVER
            recovered = paused;
#endif
            if (paused) watch_listener(EPOLL_CTL_MOD, EPOLLIN);
            paused = 0;
            accept_all();
        }
        while (dead) {
            struct conn *c = dead;
            dead = c->next_dead;
#ifdef KEEPS_MEMORY_OF_RESETS
            if (c->was_reset) continue;
#endif
            if (c->state != WAITING) free(c);
        }
    }
    answer_rest();
}
