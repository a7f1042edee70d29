"""The part of the server that every way of waiting has."""


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
    connection.close()
