"""Level-triggered epoll: the design of example 3 of the tutorial "How To Use
Linux epoll with Python", rewritten, with its shortcuts. README.md describes
them. Do not copy this server.

    python3 example3.py 8080
"""

import select
import socket
import sys

RESPONSE = (
    b"HTTP/1.0 200 OK\r\n"
    b"Date: Mon, 1 Jan 1996 01:01:01 GMT\r\n"
    b"Content-Type: text/plain\r\n"
    b"Content-Length: 13\r\n"
    b"\r\n"
    b"Hello, world!"
)


class Client:
    def __init__(self, connection):
        self.connection = connection
        self.request = b""
        self.unsent = RESPONSE


def complete(request):
    return b"\n\n" in request or b"\n\r\n" in request


def accept(epoll, listener, clients):
    connection, _ = listener.accept()
    connection.setblocking(False)
    epoll.register(connection, select.EPOLLIN)
    clients[connection.fileno()] = Client(connection)


def read(epoll, client):
    client.request += client.connection.recv(1024)
    if complete(client.request):
        epoll.modify(client.connection, select.EPOLLOUT)
        print("-" * 40)
        print(client.request.decode())


def write(epoll, client):
    sent = client.connection.send(client.unsent)
    client.unsent = client.unsent[sent:]
    if not client.unsent:
        epoll.modify(client.connection, 0)
        client.connection.shutdown(socket.SHUT_RDWR)


def main():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen(1)
    listener.setblocking(False)

    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    clients = {}
    try:
        while True:
            for fd, event in epoll.poll(1):
                if fd == listener.fileno():
                    accept(epoll, listener, clients)
                elif event & select.EPOLLIN:
                    read(epoll, clients[fd])
                elif event & select.EPOLLOUT:
                    write(epoll, clients[fd])
                elif event & select.EPOLLHUP:
                    epoll.unregister(fd)
                    clients.pop(fd).connection.close()
    finally:
        epoll.close()
        listener.close()


main()
