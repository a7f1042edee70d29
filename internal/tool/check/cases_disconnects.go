//go:build linux

package check

import "fmt"

var disconnects = []Case{
	{
		Address: "disconnects/leaves-silently", Severity: Must, Models: everyone,
		ends:    true,
		Chapter: oneClient, Contract: "B4", FailedBy: []string{"ends when nothing comes"},
		Must: "A client that connects and closes at once does no harm.",
		Why:  "Port scanners and load balancers do that all day.",
		Cause: "The server does not check for end of file (read returns 0), or treats it as an error" +
			" and ends.",
		script: []step{connect("a"), accepted("a"), closes("a"), next()},
	},
	{
		Address: "disconnects/end-of-file-mid-request", Severity: Must, Models: everyone,
		Chapter: oneClient, Contract: "B4", FailedBy: []string{"08-endless-drain"},
		Must: "After half a request and end of file, the server closes the connection without an answer.",
		Why:  "The rest will never come, and a connection that is kept costs a descriptor.",
		Cause: "Read returns 0 forever after end of file. The server treats that as \"nothing yet\"," +
			" and spins, or waits for an event that will not come.",
		script: []step{connect("a"), send("a", half), taken("a"), halfClose("a"), dropped("a"), next()},
	},
	{
		Address: "disconnects/half-close-after-request", Severity: Must, Models: everyone,
		Chapter: oneClient, Contract: "B4", FailedBy: []string{"half-closed is gone"},
		NoExercise: "The usual cause is EPOLLRDHUP, which no exercise asks for.",
		Must:       "A client that half-closes after its request is answered.",
		Why:        "It has sent its whole request, and still reads the answer: nc -N does that.",
		Cause:      endHidesRequest,
		script:     []step{connect("a"), send("a", whole), halfClose("a"), answered("a"), next()},
	},
	{
		Address: "disconnects/request-and-end-together", Severity: Must, Models: everyone,
		Chapter: edgeTriggered, Contract: "B4", FailedBy: []string{"half-closed is gone"},
		needs: toStart,
		Must:  "A request and an end of file that come in one event are both handled.",
		Why:   "There is one event for the two, and edge-triggered epoll does not repeat it.",
		when:  endedWithout,
		Cause: endHidesRequest,
		script: []step{
			connect("a"), accepted("a"), stop(), send("a", whole), halfClose("a"), goOn(),
			answered("a"), next(),
		},
	},
	{
		Address: "disconnects/half-request-and-end-together", Severity: Must, Models: everyone,
		when:    endBehindIt,
		Chapter: edgeTriggered, Contract: "B4", needs: toStart,
		FailedBy: []string{"06-one-read-per-edge"},
		Must:     "Half a request and an end of file that come in one event are both handled.",
		Why:      "There is one event for the two, and edge-triggered epoll does not repeat it.",
		Cause: "The server stops after a read that does not fill its buffer: it never reads the end of" +
			" file behind it, and the connection stays in CLOSE_WAIT forever.",
		script: []step{
			connect("a"), accepted("a"), stop(), send("a", half), halfClose("a"), goOn(),
			dropped("a"), next(),
		},
	},
	{
		Address: "disconnects/body-with-request", Severity: Must, Models: everyone,
		when:    byReset,
		Chapter: oneClient, Contract: "B3", FailedBy: []string{"closes at once"},
		Must: "Bytes after the terminator do not turn the answer's end into a reset.",
		Why: "Closing with bytes unread makes the kernel reset the connection, and the client may lose" +
			" the answer: unsent bytes are dropped, and a client that still sends gets an error.",
		Cause: "close() with bytes in the receive buffer. After the answer: shutdown(SHUT_WR), read on" +
			" until end of file (for a bounded time), then close.",
		script: []step{connect("a"), send("a", longBody()), answeredOrRefused("a"), next()},
	},
	{
		Address: "disconnects/second-request", Severity: Must, Models: everyone,
		when:    withoutAnswer,
		Chapter: oneClient, Contract: "B3", FailedBy: []string{"answers each"},
		NoExercise: "Answering each request is another protocol, and not wrong in itself.",
		Must:       "A second request in the same segment gets no answer, and no reset.",
		Why: "HTTP/1.0 has one request for each connection; the client must be able to read its" +
			" answer to the end.",
		Cause: "close() with the second request unread, or both are answered.",
		script: []step{
			connect("a"), send("a", whole+"GET /second HTTP/1.0\r\n\r\n"), answered("a"), next(),
		},
	},
	{
		Address: "disconnects/late-body", Severity: Should, Models: everyone,
		Chapter: oneClient, Contract: "B3", FailedBy: []string{"closes at once"},
		needs: toLook,
		Must:  "Bytes that come after the answer do not cause a reset.",
		Why:   "An upload may still be on its way when the server has already answered.",
		Cause: "The server closes right after the answer. Read on until end of file first, for a bounded time.",
		script: []step{
			connect("a"), send("a", whole), reads("a"),
			beginsInTime(judging(send("a", "late"))), taken("a"),
			beginsInTime(judging(send("a", "later"))), readToEnd("a"), next(),
		},
	},
	{
		Address: "disconnects/reset-before-request", Severity: Must, Models: everyone,
		ends:    true,
		Chapter: acceptLoop, Contract: "B5", FailedBy: []string{"ends on a reset"},
		Must:   "A reset before the first byte costs that connection only.",
		Why:    "Clients crash, cables are pulled, ports are scanned.",
		Cause:  "The server does not handle ECONNRESET from read.",
		script: []step{connect("a"), accepted("a"), resets("a"), next()},
	},
	{
		Address: "disconnects/reset-mid-request", Severity: Must, Models: everyone,
		ends:    true,
		Chapter: acceptLoop, Contract: "B5", FailedBy: []string{"ends on a reset"},
		Must:   "A reset in the middle of a request costs that connection only.",
		Why:    "Clients crash, and their users press Stop.",
		Cause:  "ECONNRESET from read is not handled, and ends the server.",
		script: []step{connect("a"), send("a", half), taken("a"), resets("a"), next()},
	},
	{
		Address: "disconnects/reset-before-answer", Severity: Must, Models: everyone,
		ends:    true,
		Chapter: acceptLoop, Contract: "B5", FailedBy: []string{"ends when a client is gone"},
		needs: toStart,
		Must:  "A reset between request and answer costs that connection only.",
		Why: "Writing to it fails with EPIPE or ECONNRESET, and may raise SIGPIPE, which ends a" +
			" program by default.",
		Cause: "An error of write, or SIGPIPE (MSG_NOSIGNAL), is not handled; or shutdown fails with ENOTCONN.",
		script: []step{
			connect("a"), accepted("a"), stop(), send("a", whole), resets("a"), goOn(), next(),
		},
	},
	{
		Address: "disconnects/end-and-reset-before-answer", Severity: Must, Models: everyone,
		ends:    true,
		Chapter: acceptLoop, Contract: "B5", needs: toStart, FailedBy: []string{"dies of SIGPIPE"},
		Must: "End of file and then a reset, between request and answer, cost that connection only.",
		Why: "After end of file, the reset shows in write and not in read: write fails with EPIPE, and" +
			" raises SIGPIPE, which ends a program by default.",
		Cause: "SIGPIPE: send with MSG_NOSIGNAL, or ignore the signal. (Go and Python do so by themselves.)" +
			" Or EPIPE is not handled.",
		script: []step{
			connect("a"), accepted("a"), stop(), send("a", whole), halfClose("a"), resets("a"), goOn(), next(),
		},
	},
	{
		Address: "disconnects/reset-after-answer", Severity: Must, Models: everyone,
		ends:    true,
		Chapter: acceptLoop, Contract: "B5", FailedBy: []string{"ends when a client is gone"},
		NoExercise: "It is the bug of exercise 3, at another call.",
		Must:       "A reset instead of a normal close costs that connection only.",
		Why:        "Load generators close in this way to avoid TIME_WAIT.",
		Cause:      "An error of shutdown (ENOTCONN), or of the last read, is not handled.",
		script:     []step{connect("a"), send("a", whole), reads("a"), resets("a"), next()},
	},
	{
		Address: "disconnects/close-before-answer", Severity: Must, Models: everyone,
		ends:    true,
		Chapter: acceptLoop, Contract: "B5", FailedBy: []string{"ends when a client is gone"},
		needs: toStart,
		Must:  "A client that asks and leaves without reading costs that connection only.",
		Why:   "The client's kernel replies to the answer with a reset.",
		Cause: "An error of write or shutdown is not handled.",
		script: []step{
			connect("a"), accepted("a"), stop(), send("a", whole), closes("a"), goOn(), next(),
		},
	},
	{
		Address: "disconnects/reset-in-accept-queue", Severity: Must, Models: goingOn,
		ends:    true,
		Chapter: acceptLoop, Contract: "B5", FailedBy: []string{"ends on a reset"},
		needs: toStart,
		Must:  "A connection that is reset while it waits in the accept queue affects no other client.",
		Why:   "accept then returns a connection that is already dead, or ECONNABORTED.",
		Cause: "An error of accept, or of the first call on the new connection, ends the server.",
		script: []step{
			stop(), connect("a", "b", "c"), send("b", whole), resets("a", "b"), send("c", whole), goOn(),
			answered("c"), next(),
		},
	},
}

// longBody is a request whose body no single read of a small buffer takes.
func longBody() string {
	const size = 20000
	body := make([]byte, size)
	for i := range body {
		body[i] = 'b'
	}
	return fmt.Sprintf("POST / HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s", size, body)
}
