package translation_test

import (
	"strings"
	"testing"

	"lesson/internal/translation"
)

const english = `# A loop

One thread serves
all clients, see [chapter 2](02-a-loop.md#stop).

## Run it

<!-- run: true -->

` + "```console\n$ true\n\nafter an empty line\n```" + `

- It runs <!-- count cases -->86<!-- /count --> cases.
- Then it ends.

<!-- figures now:x -->

Now do:

- this.

<!-- /figures -->

<!-- figures bench:x -->
| generated |
<!-- /figures -->

The end.
`

// page is the page with that translation.
func page(english, translated string) translation.Page {
	return translation.Page{At: "docs/zh/x.md", English: english, Translated: translated,
		Exists: func(file string) bool { return strings.HasSuffix(file, ".md") }}
}

func fill(english, translated string) string { return page(english, translated).Fill() }

// translated is the page when all but its last block has been translated.
func translated(t *testing.T) string {
	t.Helper()
	filled := fill(english, "")
	for from, to := range map[string]string{
		"# A loop\n": "# 一个循环\n",
		"One thread serves\nall clients, see [chapter 2]": "一个线程服务所有客户端，见[第 2 章]",
		"## Run it\n":             "## 运行\n",
		"- It runs":               "- 它运行",
		"cases.\n- Then it ends.": "个用例。\n- 然后结束。",
	} {
		if strings.Count(filled, from) != 1 {
			t.Fatalf("%q is %d times in\n%s", from, strings.Count(filled, from), filled)
		}
		filled = strings.Replace(filled, from, to, 1)
	}
	return fill(english, filled)
}

func counts(page string) [3]int {
	c := translation.Counts(page)
	return [3]int{c[translation.Current], c[translation.Stale], c[translation.Missing]}
}

// A page begins as the English one, and each block that is translated stays.
func TestFill(t *testing.T) {
	if got := counts(fill(english, "")); got != [3]int{0, 0, 7} {
		t.Errorf("an empty page has the blocks %v", got)
	}
	filled := translated(t)
	if got := counts(filled); got != [3]int{4, 0, 3} {
		t.Errorf("got %v in\n%s", got, filled)
	}
	for _, want := range []string{
		`## 运行 <a id="run-it"></a>`, "```console\n$ true\n\nafter an empty line\n```", "| generated |", "\nThe end.\n",
	} {
		if !strings.Contains(filled, want) {
			t.Errorf("%q is not in\n%s", want, filled)
		}
	}
	if again := fill(english, filled); again != filled {
		t.Errorf("filled again, it is\n%s", again)
	}
}

// What changes in the English page makes stale what translates it, and nothing else.
func TestDrift(t *testing.T) {
	for _, test := range []struct {
		what, from, to string
		want           [3]int // current, stale, without a translation
	}{
		{"a word", "all clients", "its clients", [3]int{3, 1, 3}},
		{"where lines break", "serves\nall", "serves all", [3]int{4, 0, 3}},
		{"a count", "86", "87", [3]int{4, 0, 3}},
		{"a heading", "## Run it", "## Run", [3]int{3, 1, 3}},
		{"code", "$ true", "$ false", [3]int{4, 0, 3}},
		{"what is generated", "| generated |", "| other |", [3]int{4, 0, 3}},
		{"a new paragraph", "## Run it", "It is new.\n\n## Run it", [3]int{4, 0, 4}},
		{"a paragraph less", "## Run it\n\n", "", [3]int{3, 0, 3}},
		{"what was not translated", "The end.", "An end.", [3]int{4, 0, 3}},
	} {
		t.Run(test.what, func(t *testing.T) {
			changed := strings.Replace(english, test.from, test.to, 1)
			filled := fill(changed, translated(t))
			if got := counts(filled); got != test.want {
				t.Errorf("got %v, want %v in\n%s", got, test.want, filled)
			}
			if again := fill(changed, filled); again != filled {
				t.Errorf("filled again, it is\n%s", again)
			}
			shown := page(changed, filled).Shown("NOTE")
			if strings.Count(shown, "NOTE") != strings.Count(page(changed, translated(t)).Shown("NOTE"), "NOTE") {
				t.Errorf("shown after and before it was filled:\n%s", shown)
			}
		})
	}
}

// A sentence that several pages have is translated once: a block without a current
// translation takes that of another page, unless it has a link.
func TestLearn(t *testing.T) {
	known := map[string]string{}
	for _, other := range []string{"# Another page\n\n## Run it\n\nThe end.\n\nSee [x](x.md).\n",
		"# A page that is not translated\n\nIt runs.\n"} {
		filled := fill(other, "")
		for from, to := range map[string]string{"## Run it": "## 运行", "The end.": "完。", "See [x]": "见 [x]"} {
			filled = strings.Replace(filled, from, to, 1)
		}
		translation.Learn(known, fill(other, filled))
	}
	ends := english + "\nIt runs.\n\nSee [x](x.md).\n"
	for _, test := range []struct{ what, is, want string }{
		{"no translation", "", "完。"},
		{"a stale one", strings.Replace(fill(ends, translated(t)), "The end.", "旧的。", 1), "完。"},
		{"its own", strings.Replace(fill(ends, translated(t)), "The end.", "到此结束。", 1), "到此结束。"},
	} {
		if test.what == "a stale one" {
			of := translation.Hash("The end.")
			test.is = strings.Replace(test.is, "todo "+of, "stale 00000000", 1)
		}
		p := page(ends, test.is)
		p.Known = known
		filled := p.Fill()
		for _, want := range []string{
			"\n" + `## 运行 <a id="run-it"></a>` + "\n", " -->\n" + test.want + "\n",
			"<!-- todo " + translation.Hash("It runs.") + " -->\nIt runs.\n",
			"<!-- todo " + translation.Hash("See [x](x.md).") + " -->\nSee [x](x.md).\n",
		} {
			if !strings.Contains(filled, want) {
				t.Errorf("%s: %q is not in\n%s", test.what, want, filled)
			}
		}
		if strings.Contains(filled, "旧的") {
			t.Errorf("%s: the stale one is still there in\n%s", test.what, filled)
		}
	}
}

// A link leads to the translated page where there is one.
func TestLinks(t *testing.T) {
	const at = "docs/zh/exercises/06/README.md"
	exists := func(file string) bool { return file == "docs/zh/05-edge.md" }
	original := "[a](../../05-edge.md#stop) [b](../../06-other.md) [c](main.go#L3) [d](https://x.y) [e](#here)"
	want := "[a](../../05-edge.md#stop) [b](../../../06-other.md) [c](../../../exercises/06/main.go#L3)" +
		" [d](https://x.y) [e](#here)"
	for range 2 {
		if got := translation.Links(original, original, at, exists); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if got := translation.Links(original, want, at, exists); got != want {
			t.Errorf("again\ngot  %s\nwant %s", got, want)
		}
	}
}

// A program shows a translated page with the links of the English one.
func TestShown(t *testing.T) {
	filled := translated(t)
	if !strings.Contains(filled, "](02-a-loop.md#stop)") {
		t.Fatalf("no link in\n%s", filled)
	}
	p := page(strings.Replace(english, "The end.", "See [code](../x.go).", 1), filled)
	p.Translated = p.Fill()
	if want := "See [code](../../x.go)."; !strings.Contains(p.Translated, want) {
		t.Errorf("%q is not in\n%s", want, p.Translated)
	}
	shown := p.Shown("NOTE")
	for _, want := range []string{"见[第 2 章](02-a-loop.md#stop)", "NOTE\n\nSee [code](../x.go)."} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not in\n%s", want, shown)
		}
	}
}

// What must be the same in both languages is compared.
func TestDifferences(t *testing.T) {
	const block = "Call `read` 2 times, see [chapter 1](01.md)."
	for _, test := range []struct{ is, want string }{
		{"调用 `read` 2 次，见[第 1 章](01.md)。", ""},
		{"见[第 1 章](01.md)，`read` 要调用 2 次。", ""},
		{"调用 `write` 2 次，见[第 1 章](01.md)。", "code"},
		{"调用 `read` 两次，见[第 1 章](01.md)。", "numbers"},
		{"调用 `read` 2 次，见第 1 章。", "links"},
		{"- 调用 `read` 2 次，见[第 1 章](01.md)。", "form"},
		{"调用`read` 2 次，见[第 1 章](01.md)。", "a space is missing"},
		{"调用 `read` 2 次,见[第 1 章](01.md)。", "a half-width mark"},
		{"调用 `read` 2 次， 见[第 1 章](01.md)。", "a space beside"},
		{"**调用 `read` 2 次，**见[第 1 章](01.md)。", "a mark at the end of bold"},
	} {
		got := translation.Differences(block, strings.ReplaceAll(test.is, "01.md", "../01.md"),
			"docs/zh/00.md", func(string) bool { return false })
		if (len(got) == 0) != (test.want == "") || len(got) > 0 && !strings.HasPrefix(got[0], test.want) {
			t.Errorf("%s: %q, want %q", test.is, got, test.want)
		}
	}
}
