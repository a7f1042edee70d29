"""A finished server in Python: one thread, edge-triggered epoll.

    python3 finished.py PORT [SECONDS]

SECONDS is how long a request may take, 60 unless given. The comments name the stage
of docs/13-write-your-own.md that asked for the line.
"""

import errno
import heapq
import itertools
import select
import signal
import socket
import sys
import time

ANSWER = (
    b"HTTP/1.0 200 OK\r\nDate: Mon, 1 Jan 1996 01:01:01 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!"
)
REFUSAL = b"HTTP/1.0 431 Request Header Fields Too Large\r\nContent-Length: 0\r\n\r\n"
MOST = 8192  # bytes of a request (stage 8)
LINGER_SECONDS, LINGER_BYTES = 1, 1 << 20  # after the answer (stage 5)
TURN = 65536  # bytes that one client may send before it is the others' turn (stage 8)
PAUSE = 0.1  # seconds without accept when descriptors have run out (stage 10)

READING, SENDING, LINGERING, CLOSED = range(4)


class Client:
    def __init__(self, connection):
        self.connection = connection
        self.state = READING
        self.request = b""
        self.unsent = b""
        self.discarded = 0
        self.deadline = None

    def advance(self):
        """Reads and sends until EAGAIN (stage 12), or until the turn is over.

        Returns whether there may be more to do.
        """
        took = 0
        while self.state != CLOSED:
            if took >= TURN:
                return True
            try:
                if self.state == SENDING:
                    self.send()
                else:
                    took += self.read()
            except InterruptedError:
                continue
            except BlockingIOError:
                return False
            except OSError:  # stage 4: a reset costs this connection only
                self.state = CLOSED
        return False

    def read(self):
        data = self.connection.recv(4096)
        if not data:  # stage 4: end of file
            self.state = CLOSED
        elif self.state == LINGERING:
            self.discarded += len(data)
            if self.discarded > LINGER_BYTES:
                self.state = CLOSED
        else:
            self.request += data
            # Stage 2: the empty line may begin in the bytes of an earlier read.
            if b"\n\n" in self.request or b"\n\r\n" in self.request:
                self.answer(ANSWER)
            elif len(self.request) >= MOST:
                self.answer(REFUSAL)
        return len(data)

    def answer(self, text):
        self.request = b""
        self.unsent = text
        self.state = SENDING

    def send(self):
        sent = self.connection.send(self.unsent)
        self.unsent = self.unsent[sent:]
        if not self.unsent:  # stage 5: closing now might turn the end into a reset
            self.connection.shutdown(socket.SHUT_WR)
            self.state = LINGERING


class Server:
    def __init__(self, port, seconds):
        self.seconds = seconds
        self.clients = {}  # by descriptor
        self.ready = {}  # clients with more to do, in order; a dict used as a set
        self.timers = []  # a heap of (deadline, number, client)
        self.number = itertools.count()
        self.paused_until = None
        self.more_to_accept = False

        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.listener.setblocking(False)
        self.epoll = select.epoll()
        self.epoll.register(self.listener, select.EPOLLIN | select.EPOLLET)
        # Stage 11: Python writes a byte here for each signal, and epoll wakes.
        self.waker, writer = socket.socketpair()
        writer.setblocking(False)
        self.writer = writer
        signal.set_wakeup_fd(writer.fileno())
        self.epoll.register(self.waker, select.EPOLLIN)
        self.stopping = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)

    def stop(self, number, frame):
        self.stopping = True

    def run(self):
        while not self.stopping:
            for fd, _ in self.epoll.poll(self.timeout()):
                if fd == self.listener.fileno():
                    self.more_to_accept = True
                elif fd in self.clients:  # not one that this round has closed (stage 10)
                    self.ready[self.clients[fd]] = True
            self.turn()
        self.finish()

    def turn(self):
        """Gives each client that is ready one turn, and accepts the next ones."""
        ready, self.ready = self.ready, {}
        for client in ready:
            self.serve(client)
        self.expire()
        if self.more_to_accept and not self.paused():
            self.accept()

    def serve(self, client):
        before = client.state
        if client.state != CLOSED and client.advance():
            self.ready[client] = True
        if client.state == CLOSED:
            self.close(client)
        elif client.state == LINGERING and before != LINGERING:
            self.set_deadline(client, LINGER_SECONDS)

    def accept(self):
        for _ in range(64):  # then it is the others' turn
            try:
                connection, _ = self.listener.accept()
            except BlockingIOError:
                self.more_to_accept = False
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # Stage 10: the clients wait in the accept queue, and no edge
                    # will report them again.
                    self.paused_until = time.monotonic() + PAUSE
                    return
                continue  # stage 4: this one was reset in the accept queue
            connection.setblocking(False)
            client = Client(connection)
            self.clients[connection.fileno()] = client
            self.set_deadline(client, self.seconds)
            self.epoll.register(
                connection, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET
            )

    def paused(self):
        return self.paused_until is not None and time.monotonic() < self.paused_until

    def set_deadline(self, client, seconds):
        client.deadline = time.monotonic() + seconds
        heapq.heappush(self.timers, (client.deadline, next(self.number), client))

    def expire(self):
        """Closes the clients whose time is over (stage 9)."""
        now = time.monotonic()
        while self.timers and self.timers[0][0] <= now:
            deadline, _, client = heapq.heappop(self.timers)
            if client.deadline == deadline and client.state != CLOSED:
                self.close(client)
        if len(self.timers) > 64 + 2 * len(self.clients):  # stage 7: of clients that left
            self.timers = [t for t in self.timers if t[2].deadline == t[0]]
            heapq.heapify(self.timers)

    def close(self, client):
        client.state = CLOSED
        client.deadline = None
        del self.clients[client.connection.fileno()]
        client.connection.close()
        self.paused_until = None  # stage 10: a descriptor is free again

    def timeout(self):
        """Returns how long epoll may sleep, in seconds; None is forever."""
        if self.ready or (self.more_to_accept and not self.paused()):
            return 0
        times = [self.timers[0][0]] if self.timers else []
        if self.more_to_accept:
            times.append(self.paused_until)
        if not times:
            return None
        return max(0, min(times) - time.monotonic())

    def finish(self):
        """Answers what has come whole, for a second at most (stage 11)."""
        self.paused_until, self.more_to_accept = None, True
        while self.more_to_accept and not self.paused():
            self.accept()
        for client in list(self.clients.values()):
            self.serve(client)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            for client in list(self.clients.values()):
                if client.state == READING:
                    self.close(client)
            if not self.clients:
                break
            for fd, _ in self.epoll.poll(max(0, end - time.monotonic())):
                if fd in self.clients:
                    self.serve(self.clients[fd])


if __name__ == "__main__":
    Server(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 60).run()
