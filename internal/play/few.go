//go:build linux

package play

import (
	"strings"
	"time"
)

// Few returns the scenarios of few slow clients, to be watched act by act. Their clients
// read whatever comes.
func Few() Scenarios {
	return Scenarios{
		few("one-waits", "docs/02-a-loop.md", "a slow client, and one in a hurry",
			"a holds half a request. Which server keeps b waiting, and on which line?",
			connects("a", 0),
			sends("a", 500*ms, FirstLine),
			connects("b", 1500*ms),
			sends("b", 2*time.Second, Request),
			sends("a", 5*time.Second, emptyLine),
			does(Close, "b", 6*time.Second),
			does(Close, "a", 7*time.Second),
		),
		few("twelve-at-once", "docs/03-a-goroutine-each.md", "twelve clients at once",
			"How long is each accept queue, and how many connections come with one event?",
			twelve()...),
		few("two-pieces", "docs/01-one-client.md", "two writes, one edge",
			"The request comes in two pieces while the server is busy elsewhere. How many events"+
				" does epoll report?",
			connects("a", 0),
			sends("a", 500*ms, FirstLine),
			sends("a", 501*ms, emptyLine),
			does(Close, "a", 1500*ms),
		),
		few("long-request", "docs/05-edge-triggered.md", "a request of 2,000 bytes",
			"How often is read called, and what would happen to a server that reads once per edge?",
			connects("a", 0),
			sends("a", 500*ms, Bytes(FirstLine+"Cookie: "+strings.Repeat("7", 2000)+"\r\n"+emptyLine)),
			// a stays: if its edge is lost, it is seen to wait.
		),
		few("one-byte-at-a-time", "docs/04-level-triggered.md", "byte by byte",
			"A client sends byte by byte. Which servers wake for each byte, and which other client"+
				" has to wait?",
			byteByByte()...),
		few("half-close", "docs/07-when-clients-misbehave.md", "a client that ends its sending side",
			"a sends its request and half-closes. Is it answered all the same? b half-closes in the"+
				" middle.",
			connects("a", 0),
			sends("a", 500*ms, Request),
			does(HalfClose, "a", 501*ms),
			connects("b", 2*time.Second),
			sends("b", 2500*ms, FirstLine),
			does(HalfClose, "b", 3500*ms),
			does(Close, "a", 4500*ms),
			does(Close, "b", 5*time.Second),
		),
		few("reset", "docs/07-when-clients-misbehave.md", "a client that resets",
			"a resets in the middle of its request. What does read return, and does b notice?",
			connects("a", 0),
			sends("a", 500*ms, FirstLine),
			connects("b", time.Second),
			does(Reset, "a", 2*time.Second),
			sends("b", 2500*ms, Request),
			does(Close, "b", 4*time.Second),
		),
	}
}

// The request of a client that is watched: whole, and the first of its two lines, which
// no server can answer.
const (
	Request   = FirstLine + emptyLine
	FirstLine = "GET / HTTP/1.0\r\n"
	emptyLine = "\r\n"
)

// few returns a scenario with the clients that act in it.
func few(name, chapter, title, question string, acts ...Act) Scenario {
	s := Scenario{Name: name, Chapter: chapter, Title: title, Question: question, Acts: acts}
	for _, a := range acts {
		if _, known := s.Client(a.Client); !known {
			s.Clients = append(s.Clients, Client{Name: a.Client, Role: Quick})
		}
		s.Lasts = max(s.Lasts, a.At+time.Second)
	}
	return s.ordered()
}

func connects(client string, at time.Duration) Act {
	return Act{At: at, Client: client, Do: Connect, Reads: true}
}

func sends(client string, at time.Duration, b Bytes) Act {
	return Act{At: at, Client: client, Do: Send, Bytes: b}
}

func does(v Verb, client string, at time.Duration) Act {
	return Act{At: at, Client: client, Do: v}
}

// twelve returns the acts of clients that connect at once, and send one after the other.
func twelve() []Act {
	var acts []Act
	for i := range 12 {
		name := string(rune('a' + i))
		at := time.Second + time.Duration(i)*20*ms
		acts = append(acts, connects(name, 0), sends(name, at, Request),
			does(Close, name, at+2*time.Second))
	}
	return acts
}

// byteByByte returns the acts of a client that sends its request byte by byte, and of one
// that comes meanwhile.
func byteByByte() []Act {
	acts := []Act{connects("a", 0), connects("b", 200*ms), sends("b", 400*ms, Request)}
	at := time.Second / 2
	for i := range len(Request) {
		acts = append(acts, sends("a", at, Bytes(Request[i:i+1])))
		at += 200 * ms
	}
	return append(acts, does(Close, "a", at+time.Second), does(Close, "b", at+2*time.Second))
}
