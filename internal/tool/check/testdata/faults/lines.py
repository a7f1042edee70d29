# lines is a server that waits with select and reads lines through a buffered file: one for
# each event. What the file has already read, the kernel never reports again.
#
# Reported by many users of Python's socket.makefile, and as jruby/jruby#414.
import os, selectors, signal, socket, sys, time
ANSWER = (b"HTTP/1.0 200 OK\r\nDate: Mon, 1 Jan 1996 01:01:01 GMT\r\nContent-Type: text/plain\r\n"
          b"Content-Length: 13\r\n\r\nHello, world!")
sel = selectors.DefaultSelector()
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
listener.setblocking(False)
sel.register(listener, selectors.EVENT_READ)
stop = []
for s in (signal.SIGTERM, signal.SIGINT):
    signal.signal(s, lambda *_: stop.append(1))
r, w = os.pipe(); os.set_blocking(w, False); os.set_blocking(r, False)
signal.set_wakeup_fd(w); sel.register(r, selectors.EVENT_READ)
files = {}
def close(c):
    sel.unregister(c); files.pop(c, None); c.close()
while not stop:
    for key, _ in sel.select():
        c = key.fileobj
        if c is listener:
            try:
                c, _ = listener.accept()
            except OSError:
                continue
            c.setblocking(False)
            files[c] = [c.makefile("rb"), b""]
            sel.register(c, selectors.EVENT_READ)
        elif c == r:
            os.read(r, 100)
        elif c in files:
            f = files[c]
            try:
                line = f[0].readline()
            except OSError:
                close(c); continue
            if not line:
                close(c); continue
            f[1] += line
            if f[1].endswith((b"\n\n", b"\n\r\n")):
                try:
                    c.sendall(ANSWER)
                    c.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                f[0].close(); close(c)
