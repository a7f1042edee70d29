package words_test

import (
	"encoding/json"
	"testing"

	"lesson/internal/proof"
	"lesson/internal/words"
)

// A page gets the English text, and what it needs to say the same in another language.
func TestSentence(t *testing.T) {
	waits := words.Say("%s must wait behind %s", words.List{"b", "c"}, "a")
	for _, test := range []struct {
		said words.Sentence
		want string
	}{
		{words.Sentence{}, `{"text":""}`},
		{words.Say("it spins"), `{"text":"it spins"}`},
		{waits, `{"text":"b, c must wait behind a","form":"%s must wait behind %s","args":[["b","c"],"a"]}`},
		{words.Say("%s: %d", words.Say("it spins"), 40), `{"text":"it spins: 40","form":"%s: %d","args":[{"text":"it spins"},40]}`},
	} {
		got, err := json.Marshal(test.said)
		proof.Must(t, err)
		if string(got) != test.want {
			t.Errorf("%s, want %s", got, test.want)
		}
	}
}

func TestTable(t *testing.T) {
	for script, want := range map[string]string{
		"// The words.\nexport default {\n  \"save\": \"Save\"\n};\n": "Save",
		"export default {};":              "",
		"const words = {};":               "an error",
		"export default {\"save\": save}": "an error",
	} {
		table, err := words.Table(script)
		got := table["save"]
		if err != nil {
			got = "an error"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", script, got, want)
		}
	}
}
