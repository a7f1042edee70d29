// A finished server in C: one thread, edge-triggered epoll.
//
//     gcc -O1 -Wall -o finished finished.c && ./finished PORT [SECONDS]
//
// SECONDS is how long a request may take, 60 unless given. The comments name the stage
// of docs/13-write-your-own.md that asked for the line.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char answer[] = "HTTP/1.0 200 OK\r\nDate: Mon, 1 Jan 1996 01:01:01 GMT\r\n"
                             "Content-Type: text/plain\r\nContent-Length: 13\r\n\r\n"
                             "Hello, world!";
static const char refusal[] = "HTTP/1.0 431 Request Header Fields Too Large\r\n"
                              "Content-Length: 0\r\n\r\n";
enum {
    MOST = 8192,                               // bytes of a request (stage 8)
    LINGER_MS = 1000, LINGER_BYTES = 1 << 20,  // after the answer (stage 5)
    TURN = 65536, // bytes that one client may send before it is the others' turn (stage 8)
    PAUSE_MS = 100, // without accept when descriptors have run out (stage 10)
};

enum state { READING, SENDING, LINGERING, CLOSED };

struct client {
    int fd;
    enum state state;
    bool ready;          // there may be more to do
    long long deadline;  // in milliseconds
    char request[MOST];
    size_t length, discarded;
    const char *unsent;
    struct client *next, *previous;
};

// All clients, and those that were closed in this round: events of them may follow in
// the same batch, so their memory is freed after it (stage 10).
static struct client clients = {.next = &clients, .previous = &clients};
static struct client *closed;

static int epoll, listener, signals, seconds = 60;
static bool more_to_accept;
static long long paused_until;

static void fail(const char *call) {
    perror(call);
    exit(1);
}

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void finish(struct client *c) {
    if (close(c->fd) < 0) perror("close");
    c->state = CLOSED;
    c->previous->next = c->next;
    c->next->previous = c->previous;
    c->next = closed;
    closed = c;
    paused_until = 0; // stage 10: a descriptor is free again
}

static bool whole(const struct client *c) {
    return memmem(c->request, c->length, "\n\n", 2) || memmem(c->request, c->length, "\n\r\n", 3);
}

static void respond(struct client *c, const char *text) {
    c->unsent = text;
    c->state = SENDING;
}

// receive reads once. It returns what read returns.
static ssize_t receive(struct client *c) {
    char discard[4096];
    if (c->state == LINGERING) {
        ssize_t n = read(c->fd, discard, sizeof discard);
        if (n > 0) c->discarded += n;
        return c->discarded > LINGER_BYTES ? 0 : n;
    }
    ssize_t n = read(c->fd, c->request + c->length, MOST - c->length);
    if (n <= 0) return n;
    c->length += n;
    if (whole(c)) respond(c, answer); // stage 2: all that has come is searched
    else if (c->length == MOST) respond(c, refusal);
    return n;
}

// transmit sends once. It returns what send or shutdown returns, and never 0.
static ssize_t transmit(struct client *c) {
    ssize_t n = send(c->fd, c->unsent, strlen(c->unsent), MSG_NOSIGNAL); // stage 4: no SIGPIPE
    if (n < 0) return n;
    c->unsent += n;
    if (*c->unsent) return n;
    // Stage 5: closing now might turn the end of the answer into a reset.
    if (shutdown(c->fd, SHUT_WR) < 0) return -1;
    c->state = LINGERING;
    c->deadline = now() + LINGER_MS;
    return 1;
}

// advance reads and sends until EAGAIN (stage 12), or until the client's turn is over.
static void advance(struct client *c) {
    c->ready = true;
    for (ssize_t took = 0; took < TURN;) {
        bool sending = c->state == SENDING;
        ssize_t n = sending ? transmit(c) : receive(c);
        if (n > 0) {
            took += n;
        } else if (n < 0 && errno == EAGAIN) {
            c->ready = false;
            return;
        } else if (n == 0 || errno != EINTR) { // stage 4: end of file, or a reset
            finish(c);
            return;
        }
    }
}

static void begin(int fd) {
    struct client *c = calloc(1, sizeof *c);
    if (!c) fail("calloc");
    c->fd = fd;
    c->deadline = now() + seconds * 1000LL;
    c->next = clients.next;
    c->previous = &clients;
    clients.next->previous = c;
    clients.next = c;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0) finish(c);
}

static bool out_of_resources(int error) {
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void accept_some(void) {
    for (int i = 0; i < 64; i++) { // then it is the others' turn
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            begin(fd);
        } else if (errno == EAGAIN) {
            more_to_accept = false;
            return;
        } else if (out_of_resources(errno)) {
            // Stage 10: the clients wait in the accept queue, and no edge will report
            // them again.
            paused_until = now() + PAUSE_MS;
            return;
        } // stage 4: else this one was reset in the accept queue
    }
}

// timeout returns how long epoll_wait may sleep, in milliseconds; -1 is forever.
static int timeout(void) {
    long long first = -1;
    if (more_to_accept) first = paused_until;
    for (struct client *c = clients.next; c != &clients; c = c->next) {
        if (c->ready) return 0;
        if (first < 0 || c->deadline < first) first = c->deadline;
    }
    if (first < 0) return -1;
    long long left = first - now();
    return left > 0 ? left : 0;
}

// turn gives each client that is ready one turn, ends those whose time is over (stage 9),
// and accepts the next ones.
static void turn(void) {
    struct client *next;
    for (struct client *c = clients.next; c != &clients; c = next) {
        next = c->next;
        if (c->ready) advance(c);
        if (c->state != CLOSED && c->deadline <= now()) finish(c);
    }
    if (more_to_accept && paused_until <= now()) accept_some();
    while (closed) {
        next = closed->next;
        free(closed);
        closed = next;
    }
}

// wait_for_events marks what is ready. It returns false when a signal has come.
static bool wait_for_events(int milliseconds) {
    struct epoll_event events[64];
    int n = epoll_wait(epoll, events, 64, milliseconds);
    if (n < 0 && errno != EINTR) fail("epoll_wait");
    bool going = true;
    for (int i = 0; i < n; i++) {
        void *what = events[i].data.ptr;
        if (what == &listener) more_to_accept = true;
        else if (what == &signals) going = false;
        else ((struct client *)what)->ready = true;
    }
    return going;
}

// stop answers what has come whole, for a second at most (stage 11).
static void stop(void) {
    long long end = now() + 1000;
    more_to_accept = true;
    paused_until = 0;
    while (more_to_accept && paused_until <= now()) accept_some();
    for (struct client *c = clients.next; c != &clients; c = c->next) c->ready = true;
    for (;;) {
        turn();
        struct client *next;
        for (struct client *c = clients.next; c != &clients; c = next) {
            next = c->next;
            if (c->state == READING && !c->ready) finish(c);
        }
        if (clients.next == &clients || now() >= end) return;
        int left = timeout();
        wait_for_events(left < 0 || left > end - now() ? end - now() : left);
    }
}

static void watch(int fd, uint32_t events, void *what) {
    struct epoll_event e = {.events = events, .data.ptr = what};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0) fail("epoll_ctl");
}

int main(int argc, char **argv) {
    if (argc > 2) seconds = atoi(argv[2]);
    // Stage 11: signals become readable, like data, so that epoll_wait wakes for them.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (signals < 0 || listener < 0 || epoll < 0) fail("signalfd, socket or epoll_create1");
    int one = 1; // stage 11: a restart may bind the port again at once
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(argc > 1 ? atoi(argv[1]) : 8080),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    if (bind(listener, (void *)&address, sizeof address) < 0) fail("bind");
    if (listen(listener, 4096) < 0) fail("listen");
    watch(listener, EPOLLIN | EPOLLET, &listener);
    watch(signals, EPOLLIN, &signals);
    while (wait_for_events(timeout())) turn();
    stop();
}
