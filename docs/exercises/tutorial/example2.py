"""Blocking sockets, one client at a time: the design of example 2 of the
tutorial "How To Use Linux epoll with Python", rewritten, with its
shortcuts. README.md describes them. Do not copy this server.

    python3 example2.py 8080
"""

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


def complete(request):
    return b"\n\n" in request or b"\n\r\n" in request


def serve(connection):
    request = b""
    while not complete(request):
        request += connection.recv(1024)
    print("-" * 40)
    print(request.decode())
    connection.send(RESPONSE)
    connection.close()


def main():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen(1)
    try:
        while True:
            connection, _ = listener.accept()
            serve(connection)
    finally:
        listener.close()


main()
