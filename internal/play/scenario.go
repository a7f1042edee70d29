//go:build linux

// Package play provides the clients' side: a connection and what can be done with it (Conn),
// what several clients do, and when, as data (Scenario), what hands out each act at its
// time (Player), and the clients that do them and record what became of each (Clients).
//
// It depends on nothing about servers, except that a request ends with an empty line.
package play

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Scenario tells what clients do, and when, as data, so that every server meets the
// same.
type Scenario struct {
	Name     string        `json:"name"`
	Title    string        `json:"title"`             // in a few words
	Question string        `json:"question"`          // what to look for
	Text     string        `json:"text,omitempty"`    // what the clients do, in a sentence or two
	Chapter  string        `json:"chapter,omitempty"` // its file in the repository
	Clients  []Client      `json:"clients"`           // in the order of rows
	Acts     []Act         `json:"acts"`              // ordered by At
	Lasts    time.Duration `json:"lasts"`             // then those that still wait give up

	// Frozen is how long the server should be stopped, by SIGSTOP, from the
	// beginning, so that it finds all that came meanwhile at once. 0 is not at
	// all. Clients cannot do that: it is for what started the server.
	Frozen time.Duration `json:"frozen,omitempty"`
}

// A Client is one that acts.
type Client struct {
	Name string `json:"name"`
	Role string `json:"role"` // one of the roles below
	// SmallBuffer is for a client that reads slowly: see DialSmall.
	SmallBuffer bool `json:"small_buffer,omitempty"`
}

// The roles. Clients of one role are alike.
const (
	Slow    = "slow"    // lets the server wait, and finishes
	Stuck   = "stuck"   // lets the server wait forever
	Quick   = "quick"   // connects, asks and reads, without a pause
	Flooder = "flooder" // sends for as long as the server takes it
)

// Bytes are what a client sends. In JSON, each byte is one character, U+0000 to U+00FF:
// ASCII is as it is, and any byte can be sent.
type Bytes string

// MarshalJSON implements json.Marshaler.
func (b Bytes) MarshalJSON() ([]byte, error) {
	characters := make([]rune, len(b))
	for i := range len(b) {
		characters[i] = rune(b[i])
	}
	return json.Marshal(string(characters))
}

// UnmarshalJSON implements json.Unmarshaler. It returns an error for a character that is
// no byte.
func (b *Bytes) UnmarshalJSON(text []byte) error {
	var characters string
	if err := json.Unmarshal(text, &characters); err != nil {
		return err
	}
	var p []byte
	for _, r := range characters {
		if r > 0xff {
			return fmt.Errorf("bytes: %q is not a byte: use characters up to U+00FF", r)
		}
		p = append(p, byte(r))
	}
	*b = Bytes(p)
	return nil
}

// shown returns the number of bytes and the first of them: `16 bytes: GET / HTTP/1.0\r\n`.
func (b Bytes) shown() string {
	const most = 40
	first, more := b, ""
	if len(b) > most {
		first, more = b[:most], "…"
	}
	quoted := strconv.QuoteToASCII(string(first))
	quoted = strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
	return quoted + more
}

// MostFlooded bounds a flood whose Act does not, in bytes.
const MostFlooded = 64 << 20

// Scenarios are some that can be chosen by name.
type Scenarios []Scenario

// Names returns the names of all.
func (all Scenarios) Names() []string {
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
	}
	return names
}

// Find returns the scenario of that name.
func (all Scenarios) Find(name string) (Scenario, error) {
	for _, s := range all {
		if s.Name == name {
			return s, nil
		}
	}
	return Scenario{}, fmt.Errorf("no scenario %q; there are %s",
		name, strings.Join(all.Names(), ", "))
}

// Client returns the client of that name.
func (s Scenario) Client(name string) (Client, bool) {
	for _, c := range s.Clients {
		if c.Name == name {
			return c, true
		}
	}
	return Client{}, false
}

// ordered returns the scenario with its acts in the order of time. The acts of one
// client stay in their order.
func (s Scenario) ordered() Scenario {
	slices.SortStableFunc(s.Acts, func(a, b Act) int { return int(a.At - b.At) })
	return s
}
