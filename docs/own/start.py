"""The beginning of a server: it reads once, and closes every connection unanswered."""

import socket
import sys

port = int(sys.argv[1])
listener = socket.create_server(("127.0.0.1", port))
while True:
    connection, _ = listener.accept()
    connection.recv(4096)
    # Stage 1: send the answer.
    connection.close()
