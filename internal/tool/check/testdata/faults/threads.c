// threads is a server with a thread for each connection that is right, and with one of the
// macros below has one fault:
//
//	gcc -O1 -pthread -DPROCESSES_NOT_WAITED_FOR -o threads threads.c && ./threads PORT SECONDS
//
// SECONDS is how long a request may take. The table in faults_test.go names the report of
// each fault, the case that it fails, and the cause.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LINGER 1000 // ms
#define MAX_REQUEST 8192
#define PIECE 1024 // of a request, where that is a fault
#define MAX_DRAINED (1 << 20)

static const char ANSWER[] =
    "HTTP/1.0 200 OK\r\nDate: Mon, 1 Jan 1996 01:01:01 GMT\r\n"
    "Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!";
static const char REFUSAL[] =
    "HTTP/1.0 431 Request Header Fields Too Large\r\nContent-Length: 0\r\n\r\n";

static int seconds = 60, listener, active, stop_pipe[2];
static volatile sig_atomic_t stopping;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void on_signal(int signal) {
    (void)signal;
    stopping = 1;
    if (write(stop_pipe[1], "x", 1) < 0) _exit(1);
}

static int is_complete(const char *buffer, size_t len) {
    return memmem(buffer, len, "\n\n", 2) || memmem(buffer, len, "\n\r\n", 3);
}

// readable waits: 1 is readable, 0 that the time is over, -1 that the server stops.
static int readable(int fd, long long deadline) {
    for (;;) {
        long long left = deadline - now();
        if (left <= 0) return 0;
        struct pollfd p[] = {{.fd = fd, .events = POLLIN}, {.fd = stop_pipe[0], .events = POLLIN}};
        if (poll(p, 2, (int)left) < 0 && errno == EINTR) continue;
        if (p[0].revents) return 1;
        if (p[1].revents) return -1;
    }
}

static int send_all(int fd, const char *text) {
    size_t n = strlen(text), sent = 0;
    while (sent < n) {
        ssize_t w = send(fd, text + sent, n - sent, MSG_NOSIGNAL);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) return -1;
        sent += w;
    }
    return 0;
}

static void serve(int fd) {
#ifdef ONE_BUFFER
    static char buffer[MAX_REQUEST];
    char rest[16384];
#else
    char buffer[MAX_REQUEST], rest[16384];
#endif
    size_t len = 0, drained = 0, most = MAX_REQUEST;
    const char *out = NULL;
    long long deadline = now() + seconds * 1000LL;
    while (!out) {
        if (readable(fd, deadline) <= 0) goto end;
#ifdef READS_WHILE_FULL
        most = len < MAX_REQUEST - PIECE ? len + PIECE : MAX_REQUEST;
#endif
        ssize_t r = recv(fd, buffer + len, most - len, 0);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) goto end;
        len += r;
#ifdef READS_WHILE_FULL
        // "The buffer is full, so there is more."
        while (r == PIECE && len <= MAX_REQUEST - PIECE && (r = recv(fd, buffer + len, PIECE, 0)) > 0)
            len += r;
#endif
        if (is_complete(buffer, len)) out = ANSWER;
        else if (len == MAX_REQUEST) out = REFUSAL;
    }
    if (send_all(fd, out) < 0 || shutdown(fd, SHUT_WR) < 0) {
#ifdef SEND_FAILURE_ENDS_THREAD
        close(fd);
        pthread_exit(NULL);
#endif
        goto end;
    }
    deadline = now() + LINGER;
    while (drained < MAX_DRAINED && readable(fd, deadline) > 0) {
        ssize_t r = recv(fd, rest, sizeof rest, 0);
        if (r <= 0) break;
        drained += r;
    }
end:
    close(fd);
}

static void count(int more) {
    pthread_mutex_lock(&lock);
    active += more;
    pthread_mutex_unlock(&lock);
}

static void *run(void *arg) {
    serve((int)(intptr_t)arg);
    count(-1);
    return NULL;
}

#ifdef WAITS_FOR_ONE_PROCESS
static void on_child(int signal) {
    (void)signal;
    waitpid(-1, NULL, WNOHANG);
}
#endif

static void hand_over(int fd) {
#if defined PROCESSES_NOT_WAITED_FOR || defined WAITS_FOR_ONE_PROCESS
    pid_t child = fork();
    if (child == 0) {
        close(listener);
        serve(fd);
        _exit(0);
    }
    if (child < 0) usleep(50000);
    close(fd);
    return;
#endif
#ifdef POOL
    count(1);
    serve(fd);
    count(-1);
    return;
#endif
    pthread_t thread;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 128 << 10);
#ifndef THREADS_NOT_JOINED
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
#endif
    count(1);
    int failed = pthread_create(&thread, &attr, run, (void *)(intptr_t)fd);
    if (failed) {
#ifdef THREAD_FAILURE_ENDS
        fprintf(stderr, "pthread_create: %s\n", strerror(failed));
        exit(1);
#endif
#ifndef THREAD_FAILURE_PASSED_OVER
        close(fd);
#endif
        count(-1);
    }
    pthread_attr_destroy(&attr);
}

static void *accept_clients(void *arg) {
    (void)arg;
    while (!stopping) {
        struct pollfd p[] = {{.fd = listener, .events = POLLIN},
                             {.fd = stop_pipe[0], .events = POLLIN}};
        if (poll(p, 2, -1) < 0 || !(p[0].revents & POLLIN)) continue;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) hand_over(fd);
        else if (errno == EMFILE || errno == ENFILE) usleep(50000);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc > 2) seconds = atoi(argv[2]);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (pipe(stop_pipe) < 0) return 1;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
#ifdef WAITS_FOR_ONE_PROCESS
    struct sigaction child = {.sa_handler = on_child, .sa_flags = SA_RESTART};
    sigaction(SIGCHLD, &child, NULL);
#endif
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(atoi(argv[1])),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (void *)&a, sizeof a) < 0 || listen(listener, 4096) < 0) {
        perror("listen");
        return 1;
    }
#ifdef POOL
    for (int i = 1; i < POOL; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, accept_clients, NULL);
    }
#endif
#ifdef SEND_FAILURE_ENDS_THREAD
    while (!stopping) pause(); // all threads of the pool are others
#else
    accept_clients(NULL);
#endif
    close(listener);
    while (wait(NULL) > 0) {}
    for (int i = 0; i < 1000; i++, usleep(1000)) {
        pthread_mutex_lock(&lock);
        int n = active;
        pthread_mutex_unlock(&lock);
        if (!n) break;
    }
    return 0;
}
