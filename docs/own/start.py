"""The beginning of a server: it listens, and closes every connection unanswered."""

import socket
import sys

port = int(sys.argv[1])
listener = socket.create_server(("127.0.0.1", port))
while True:
    connection, _ = listener.accept()
    # Stage 1: read the request, and send the answer.
    connection.close()
