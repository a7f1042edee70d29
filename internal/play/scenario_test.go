//go:build linux

package play

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"lesson/internal/proof"
)

func TestScenariosAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range slices.Concat(Many(), Few()) {
		if seen[s.Name] || s.Title == "" || s.Question == "" || s.Lasts == 0 {
			t.Errorf("%+v", s)
		}
		seen[s.Name] = true
		if !slices.IsSortedFunc(s.Acts, func(a, b Act) int { return int(a.At - b.At) }) {
			t.Errorf("%s: acts are not in order", s.Name)
		}
		acted := map[string]bool{}
		for _, a := range s.Acts {
			if !acted[a.Client] && a.Do != Connect {
				t.Errorf("%s: the first act is %s", s.Name, a)
			}
			acted[a.Client] = true
			if _, ok := s.Client(a.Client); !ok || !slices.Contains(Verbs(), a.Do) || a.At > s.Lasts {
				t.Errorf("%s: %+v", s.Name, a)
			}
		}
		if len(acted) != len(s.Clients) {
			t.Errorf("%s: %d of %d clients act", s.Name, len(acted), len(s.Clients))
		}
		text, err := json.Marshal(s)
		proof.Must(t, err)
		if !strings.Contains(string(text), `"do":"connect"`) {
			t.Errorf("as JSON: %s", text)
		}
	}
	for _, s := range Many() {
		if s.Text == "" || s.Chapter == "" {
			t.Errorf("%s: no text, or no chapter", s.Name)
		}
	}
	if _, err := Many().Find("nosuch"); err == nil || !strings.Contains(err.Error(), "slow-client, crowd") {
		t.Errorf("%v", err)
	}
	if len(long) != longFirst+12 || Request != firstHalf+secondHalf {
		t.Error("a request is not as long as its scenario says")
	}
}

func TestActsInWords(t *testing.T) {
	for _, test := range []struct {
		act  Act
		want string
	}{
		{Act{Client: "a", Do: Send, Bytes: FirstLine}, `a sends 16 bytes: GET / HTTP/1.0\r\n`},
		{Act{Client: "a", Do: Send, Bytes: `"`}, `a sends 1 byte: "`},
		{Act{Client: "a", Do: Send, Bytes: "\x80\x1b"}, `a sends 2 bytes: \x80\x1b`},
		{Act{Client: "a", Do: Send, Bytes: Bytes(strings.Repeat("x", 41))},
			"a sends 41 bytes: " + strings.Repeat("x", 40) + "…"},
	} {
		if got := test.act.String(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
	for _, verb := range Verbs() {
		if words := (Act{Client: "a", Do: verb}).String(); len(words) < len("a reads") {
			t.Errorf("%s: %q", verb, words)
		}
	}
}

func TestBytesInJSON(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	text, err := json.Marshal(Bytes(all))
	proof.Must(t, err)
	var back Bytes
	proof.Must(t, json.Unmarshal(text, &back))
	if back != Bytes(all) {
		t.Errorf("%q became %q", all, back)
	}
	for text, want := range map[string]Bytes{
		`"GET / HTTP/1.0\r\n"`: FirstLine, `"\u00ff\u001b<b>\u0080"`: "\xff\x1b<b>\x80", `""`: "",
	} {
		var b Bytes
		if err := json.Unmarshal([]byte(text), &b); err != nil || b != want {
			t.Errorf("%s: %q, %v, want %q", text, b, err, want)
		}
	}
	for _, text := range []string{`"\u0100"`, `1`} {
		if err := json.Unmarshal([]byte(text), &back); err == nil {
			t.Errorf("%s is %q", text, back)
		}
	}
}
