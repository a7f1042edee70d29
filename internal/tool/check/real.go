//go:build linux

package check

import (
	"fmt"
	"slices"
	"strings"
)

// A RealServer is a widely used server and what it fails, as a test observes it.
type RealServer struct {
	Name   string
	Run    string // how it is run, in words
	Excuse []Excuse
}

// An Excuse is a reason for which a server fails some cases.
type Excuse struct {
	Cases     []string // addresses
	Sometimes bool     // it fails them in some runs only: Why says on what that depends
	Why       string
}

// find returns the excuse for a case, if there is one.
func (s RealServer) find(address string) (Excuse, bool) {
	for _, e := range s.Excuse {
		if slices.Contains(e.Cases, address) {
			return e, true
		}
	}
	return Excuse{}, false
}

// RealServersTable returns what the real servers fail, and why, as a table in Markdown.
func RealServersTable() string {
	var out strings.Builder
	out.WriteString("| server | fails | because |\n|---|---|---|\n")
	for _, s := range RealServers {
		name := fmt.Sprintf("**%s**, %s", s.Name, s.Run)
		for _, e := range s.Excuse {
			if slices.Equal(e.Cases, ownWords.Cases) { // the same for all
				continue
			}
			cases := codes(e.Cases)
			if e.Sometimes {
				cases = "sometimes " + cases
			}
			fmt.Fprintf(&out, "| %s | %s | %s |\n", name, cases, e.Why)
			name = ""
		}
	}
	return out.String()
}

// ownWords excuses every server that is no lesson.
var ownWords = Excuse{
	Cases: []string{"requests/answer"}, Why: "It answers in its own words.",
}

// noLingering is that of servers which close a connection once they have read the request
// and sent the answer.
var noLingering = Excuse{
	Cases: []string{"disconnects/late-body"},
	Why: "It closes after the answer to a complete request, so bytes that come later are answered" +
		" by a reset. HTTP clients send none.",
}

// RealServers are the servers, as Debian 12 and Go bring them, in the order of the table.
var RealServers = []RealServer{
	{
		Name: "nginx", Run: "2 workers", Excuse: []Excuse{
			ownWords, noLingering,
			{
				Cases: []string{"signals/terminate-answers", "signals/terminate-unsent"},
				Why:   "SIGTERM is its fast stop. SIGQUIT is the graceful one.",
			},
			{
				Cases: []string{"slow/half-close-while-full"},
				Why:   "A client that half-closes before it has its answer counts as gone (status 499 in its log).",
			},
		},
	},
	{
		Name: "lighttpd", Run: "a file", Excuse: []Excuse{
			ownWords,
			{
				Cases: []string{
					"slow/full-send-buffer-others", "resources/idle-full-send-buffer", "resources/idle-unread-answer",
				},
				Why: "A bug: it calls writev again and again while the send buffer is full.",
			},
			{
				Cases: []string{"slow/timeout-dripping"},
				Why:   "Its server.max-read-idle counts from the last byte.",
			},
			{
				Cases: []string{"limits/descriptors-survives", "limits/stale-event"},
				Why:   "It needs a descriptor to open the file with the answer. There is none, so it answers 403.",
			},
			{
				Cases: []string{"limits/descriptors-recovers"}, Sometimes: true,
				Why: "The same, when it accepts before the check has raised the limit.",
			},
			{
				Cases: []string{"limits/descriptors-calm"},
				Why:   "A bug: it calls accept again and again while there is no descriptor.",
			},
			{
				Cases: []string{
					"signals/terminate-half-request", "signals/terminate-answers", "signals/terminate-unsent",
				},
				Why: "SIGTERM is its fast stop. SIGINT is the graceful one.",
			},
			{
				Cases: []string{
					"resources/descriptors-never-closes", "resources/descriptors-keeps-sending", "slow/timeout",
				},
				Why: "It lingers for 5 seconds, and the clients of the test wait for 2.",
			},
		},
	},
	{
		Name: "haproxy", Run: "`http-request return`", Excuse: []Excuse{
			ownWords, noLingering,
			{
				Cases: []string{
					"signals/terminate", "signals/interrupt", "signals/terminate-half-request",
					"signals/terminate-answers", "signals/terminate-unsent",
				},
				Why: "SIGTERM and SIGINT are its fast stop: the process is killed by the signal, without" +
					" an exit status. SIGUSR1 is the graceful one.",
			},
		},
	},
	{
		Name: "net/http", Run: "Go, a handler of one line, `Shutdown` on SIGTERM", Excuse: []Excuse{
			ownWords, noLingering,
			{
				Cases: []string{"disconnects/body-with-request"},
				Why: "A bug: when the handler has not read the body, the connection is closed with the body" +
					" unread, and the reset may destroy the answer.",
			},
			{
				Cases: []string{"signals/terminate-half-request"},
				Why:   "Shutdown gives a connection that has sent no complete request 5 seconds.",
			},
		},
	},
	{
		Name: "http.server", Run: "Python, a file", Excuse: []Excuse{
			ownWords, noLingering,
			{
				Cases: []string{
					"disconnects/end-of-file-mid-request", "disconnects/half-request-and-end-together",
				},
				Why: "A bug: end of file counts as the end of the header section, so half a request is" +
					" answered.",
			},
			{
				Cases: []string{"slow/timeout", "slow/timeout-silent", "slow/timeout-dripping"},
				Why:   "It has no timeout, unless the handler sets one.",
			},
			{
				Cases: []string{"crowds/hundred", "crowds/accept-queue"},
				Why:   "Its backlog is 5 (socketserver's request_queue_size).",
			},
			{
				Cases: []string{"limits/descriptors-survives", "limits/stale-event"},
				Why:   "It needs a descriptor to open the file with the answer, and there is none.",
			},
			{
				Cases: []string{"limits/descriptors-calm"},
				Why:   "A bug: selectors reports the listener again and again while there is no descriptor.",
			},
			{
				Cases: []string{
					"signals/terminate", "signals/terminate-half-request", "signals/terminate-answers",
					"signals/terminate-unsent",
				},
				Why: "It has no handler for SIGTERM. It ends on SIGINT.",
			},
		},
	},
	{
		Name: "gunicorn", Run: "1 sync worker", Excuse: []Excuse{
			ownWords, noLingering,
			{
				Cases: []string{"disconnects/body-with-request"},
				Why: "A bug: when the application has not read the body, the connection is closed with the" +
					" body unread, and the reset may destroy the answer.",
			},
			{
				Cases: []string{
					"limits/descriptors-calm", "limits/descriptors-recovers", "limits/descriptors-raised",
				},
				Sometimes: true,
				Why: "When accept fails with EMFILE, the worker ends, with its connections, and the master" +
					" starts another. Whether a client notices depends on which worker accepts it.",
			},
			{
				Cases: []string{"slow/timeout", "slow/timeout-dripping"},
				Why:   "A sync worker has no timeout for a client: it is made to run behind a proxy.",
			},
			{
				Cases: []string{"signals/terminate-half-request"},
				Why:   "Its graceful stop gives a worker 30 seconds.",
			},
		},
	},
	{
		Name: "Node", Run: "`http`, `server.close` on SIGTERM", Excuse: []Excuse{
			ownWords, noLingering,
			{
				Cases: []string{"signals/terminate-half-request"},
				Why:   "server.close waits for connections that have sent half a request.",
			},
			{
				Cases: []string{"signals/terminate-unsent"}, Sometimes: true,
				Why: "Since Node 19, server.close closes idle connections, and one whose answer is in Node's own" +
					" buffer, all of it, counts as idle.",
			},
		},
	},
}
