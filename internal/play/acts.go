//go:build linux

package play

import (
	"time"

	"lesson/internal/words"
)

// An Act describes what one client does at one moment.
type Act struct {
	At     time.Duration `json:"at"` // from the beginning
	Client string        `json:"client"`
	Do     Verb          `json:"do"`
	// Reads lets a client that connects read from then on whatever comes, as most
	// programs do. Without it, it reads when an act says so.
	Reads bool  `json:"reads,omitempty"`
	Bytes Bytes `json:"bytes,omitempty"` // what to send, or to flood with
	// Most bounds a flood, in bytes; 0 is MostFlooded.
	Most int64 `json:"most,omitempty"`
	// Pause is before each byte of a read-slowly but the first, and after each
	// Bytes of a flood.
	Pause time.Duration `json:"pause,omitempty"`
}

// A Verb names something that a client can do. A client waits for the server only to connect, and for
// room in the send buffer: what may take longer continues in the background.
type Verb string

// The verbs.
const (
	Connect   Verb = "connect"
	Send      Verb = "send"       // Bytes, in a segment of its own
	Flood     Verb = "flood"      // Bytes again and again, until refused, Most, close or the end
	HalfClose Verb = "half-close" // ends the sending side
	Close     Verb = "close"
	Reset     Verb = "reset"
	Read      Verb = "read" // to end of file
	// ReadAndClose is Read, and Close after end of file: what curl does.
	ReadAndClose Verb = "read-and-close"
	ReadSlowly   Verb = "read-slowly" // to end of file, a byte at a time, and close
	Wait         Verb = "wait"        // nothing: the client is there, at least until now
)

// Verbs returns all verbs.
func Verbs() []Verb {
	return []Verb{
		Connect, Send, Flood, HalfClose, Close, Reset, Read, ReadAndClose, ReadSlowly, Wait,
	}
}

// forms are the sentences of the acts that send nothing.
var forms = map[Verb]string{
	Connect: "%s connects", HalfClose: "%s closes its sending half", Close: "%s closes",
	Reset: "%s resets the connection", Read: "%s reads to end of file",
	ReadAndClose: "%s reads to end of file and closes",
	ReadSlowly:   "%s reads slowly to end of file and closes", Wait: "%s waits",
}

// Sentence returns the act as a sentence without a period: "a connects".
func (a Act) Sentence() words.Sentence {
	switch {
	case a.Do == Send && len(a.Bytes) == 1:
		return words.Say("%s sends %d byte: %s", a.Client, 1, a.Bytes.shown())
	case a.Do == Send:
		return words.Say("%s sends %d bytes: %s", a.Client, len(a.Bytes), a.Bytes.shown())
	case a.Do == Flood && len(a.Bytes) == 1:
		return words.Say("%s sends again and again %d byte: %s", a.Client, 1, a.Bytes.shown())
	case a.Do == Flood:
		return words.Say("%s sends again and again %d bytes: %s", a.Client, len(a.Bytes), a.Bytes.shown())
	}
	return words.Say(forms[a.Do], a.Client)
}

// String returns the text of the sentence.
func (a Act) String() string { return a.Sentence().Text }
