"""The part of the server that every way of waiting has."""

import socket


def answer(connection):
    if sum(
        map(
            len,
            (connection.recv(100) for _ in range(1)),  # recv
        )
    ):
        connection.sendall(  # send
            b"hi",
        )
    list(map(socket.socket.close, [connection]))  # close
