"""One server that waits in several ways. A comment names the call that its line makes."""

import os
import select
import selectors
import socket
import sys
import threading

import answers


def loop(listener):
    while True:
        connection, _ = listener.accept()  # accept4
        answers.answer(connection)


def threads(listener):
    while True:
        connection, _ = listener.accept()  # accept4
        threading.Thread(target=answers.answer, args=(connection,), daemon=True).start()


def processes(listener):
    while True:
        connection, _ = listener.accept()  # accept4
        if os.fork() == 0:
            answers.answer(connection)
            os._exit(0)
        connection.close()


def epoll(listener):
    ready = select.epoll()  # epoll_create1
    ready.register(listener, select.EPOLLIN)  # epoll_ctl
    while True:
        ready.poll()  # epoll_wait
        connection, _ = listener.accept()  # accept4
        answers.answer(connection)


def library(listener):
    ready = selectors.DefaultSelector()  # epoll_create1
    ready.register(listener, selectors.EVENT_READ)  # epoll_ctl
    while True:
        for key, _ in ready.select():  # epoll_wait
            connection, _ = key.fileobj.accept()  # accept4
            answers.answer(connection)


listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))  # listen
globals()[sys.argv[2]](listener)
