// Package translation keeps a page in another language beside its English original, block
// by block. Before each block of translated prose stands a comment with the hash of the
// English block:
//
//	<!-- en 3f2a91c0 -->     it translates this block
//	<!-- stale 3f2a91c0 -->  it translates what stood here before this block was changed
//	<!-- todo 3f2a91c0 -->   the block has no translation yet: it is the English one
//
// All else (code, transcripts, generated figures) is not translated, and is copied.
// Generated sentences are prose.
package translation

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A State says what a translated block is worth.
type State string

// The states of a block, as its comment gives them.
const (
	Current State = "en"
	Stale   State = "stale"
	Missing State = "todo"
)

// A Block is what stands between two empty lines of a page. A fenced block of code, and
// what is generated between two markers, is one block whatever lines it has.
type Block struct {
	Text  string // without its comment
	Prose bool   // to be translated

	// Of a block of prose in a translation:
	State State  // "" without a comment
	Of    string // the hash in its comment
}

var (
	marker = regexp.MustCompile(`^ *<!-- (en|stale|todo) ([0-9a-f]{8}) -->$`)
	// What is generated between these markers is prose, and is translated.
	generatedWords = regexp.MustCompile(`^<!-- figures (epoll|now|stage):`)
	// What is alone on its line and is no prose.
	kept = regexp.MustCompile(`^ *(<!--.*-->|</details>|\[embedmd\]:# .*)$`)
)

// Split returns the blocks of a page.
func Split(page string) []Block {
	s := splitter{}
	for line := range strings.SplitSeq(page, "\n") {
		s.line(line)
	}
	s.flush()
	return s.blocks
}

type splitter struct {
	blocks []Block
	lines  []string // of the block that has begun
	ends   string   // the line that ends it, "" for an empty line
	next   Block    // what the comment before it says
}

func (s *splitter) line(line string) {
	text := strings.TrimSpace(line)
	m := marker.FindStringSubmatch(line)
	switch {
	case s.ends != "":
		s.lines = append(s.lines, line)
		if text == s.ends {
			s.flush()
		}
		return
	case text == "":
		s.flush()
		return
	case m != nil:
		s.flush()
		s.next = Block{State: State(m[1]), Of: m[2]}
		return
	case strings.HasPrefix(text, "```"):
		if !s.onlyKept() { // a sentence goes on after the code
			s.flush()
		}
		s.ends = "```"
	case strings.HasPrefix(text, "<!-- figures ") && !generatedWords.MatchString(text):
		s.flush()
		s.ends = "<!-- /figures -->"
	}
	s.lines = append(s.lines, line)
}

// onlyKept reports whether the block so far has no prose, such as the comment with the
// place that the code is quoted from.
func (s *splitter) onlyKept() bool {
	for _, line := range s.lines {
		if !kept.MatchString(line) {
			return false
		}
	}
	return true
}

func (s *splitter) flush() {
	if len(s.lines) > 0 {
		b := s.next
		b.Text, b.Prose = strings.Join(s.lines, "\n"), s.ends == "" && !s.onlyKept()
		s.blocks = append(s.blocks, b)
		s.next = Block{}
	}
	s.lines, s.ends = nil, ""
}

var counted = regexp.MustCompile(`(<!-- count \S+ -->)[^<]*<`)

// Hash returns what the comment before a translation of the block holds: 8 digits that
// change with its words. Where its lines break does not matter, nor does a number in it
// that is counted.
func Hash(english string) string {
	words := strings.Join(strings.Fields(counted.ReplaceAllString(english, "$1<")), " ")
	return fmt.Sprintf("%x", sha256.Sum256([]byte(words)))[:8]
}

// A Page is a page and its translation.
type Page struct {
	At                  string // the path of the translation in the repository
	English, Translated string
	Exists              func(file string) bool // is there a translated page at that path?

	// Known has the translation of a block by the hash of the English one. A block without
	// a current translation takes it from there, so that a sentence that several pages
	// have is translated once. It may be nil.
	Known map[string]string
}

// Learn adds to known the current translations of a page. Those with a link are left out,
// because from another folder the link would lead elsewhere.
func Learn(known map[string]string, translated string) {
	for _, b := range translations(Split(translated)) {
		if b.State == Current && !link.MatchString(b.Text) {
			known[b.Of] = b.Text
		}
	}
}

// Fill returns the translated page with all that follows from the English one: code,
// anchors, links, and the comments. A block of prose without a translation stands there in
// English, to be translated. Translations whose English block is no longer there are
// stale if an English block has taken its place, and are left out if none has.
func (p Page) Fill() string {
	var page []string
	for _, pair := range p.pairs() {
		b := pair[1]
		if b.Prose {
			indent := b.Text[:len(b.Text)-len(strings.TrimLeft(b.Text, " "))]
			b.Text = fmt.Sprintf("%s<!-- %s %s -->\n%s", indent, b.State, b.Of, b.Text)
		}
		page = append(page, b.Text)
	}
	return strings.Join(page, "\n\n") + "\n"
}

// Shown returns the translated page as a program shows it in place of the English one, with
// the links of that. Where a block has no current translation, the English one stands,
// after the note.
func (p Page) Shown(note string) string {
	var page []string
	for _, pair := range p.pairs() {
		english, b := pair[0].Text, pair[1]
		b.Text = relink(english, b.Text, p.At, func(target, _ string) string { return target })
		if b.Prose && b.State != Current {
			b.Text = english
			if note != "" && !heading.MatchString(english) {
				b.Text = note + "\n\n" + b.Text
			}
		}
		page = append(page, b.Text)
	}
	return strings.Join(page, "\n\n") + "\n"
}

// Prose returns the blocks of prose of both pages side by side: of each pair the first is
// the English one.
func (p Page) Prose() [][2]Block {
	return slices.DeleteFunc(p.pairs(), func(pair [2]Block) bool { return !pair[0].Prose })
}

// pairs returns all blocks, with what stands for each in the translated page.
func (p Page) pairs() [][2]Block {
	original := Split(p.English)
	var pairs [][2]Block
	for i, b := range align(original, translations(Split(p.Translated))) {
		if known, is := p.Known[b.Of]; is && b.Prose && b.State != Current {
			b.Text, b.State = known, Current
			b = withAnchor(original[i].Text, b)
		}
		if !strings.Contains(b.Text, "```") {
			b.Text = Links(original[i].Text, b.Text, p.At, p.Exists)
		}
		pairs = append(pairs, [2]Block{original[i], b})
	}
	return pairs
}

// Counts returns how many blocks of prose a translated page has in each state.
func Counts(translated string) map[State]int {
	counts := map[State]int{}
	for _, b := range translations(Split(translated)) {
		counts[b.State]++
	}
	return counts
}

// translations returns the blocks that are translations. What has no comment is none: it was
// copied, or is in the way.
func translations(blocks []Block) []Block {
	var found []Block
	for _, b := range blocks {
		if b.Prose && b.State != "" {
			found = append(found, b)
		}
	}
	return found
}

// unlinked returns a hash of a block that its links do not change.
func unlinked(block string) string { return Hash(link.ReplaceAllString(block, "]")) }

// align returns a page with the blocks of the English one, in which each block of prose is
// its translation. Translations are found by their hashes, in the order of the longest
// common sequence; those between are taken in their order.
func align(english, translated []Block) []Block {
	var hashes []string
	var at []int // their places in english
	for i, b := range english {
		if b.Prose {
			hashes, at = append(hashes, Hash(b.Text)), append(at, i)
		}
	}
	page := append([]Block{}, english...)
	e, t := 0, 0
	between := func(toE, toT int) {
		for ; e < toE; e++ {
			b := Block{Text: english[at[e]].Text, Prose: true, State: Missing, Of: hashes[e]}
			if t < toT && translated[t].State != Missing {
				b.Text, b.State = translated[t].Text, Stale
			}
			t = min(t+1, toT)
			page[at[e]] = withAnchor(english[at[e]].Text, b)
		}
		t = toT
	}
	for _, pair := range common(hashes, translated) {
		between(pair[0], pair[1])
		b := translated[t]
		switch still := unlinked(b.Text) == unlinked(english[at[e]].Text); {
		case b.State == Missing && still:
			b.Text = english[at[e]].Text // a count in it may be another
		case b.State == Missing:
			b.State = Current // it has been translated since
		}
		page[at[e]] = withAnchor(english[at[e]].Text, b)
		e, t = e+1, t+1
	}
	between(len(hashes), len(translated))
	return page
}

// common returns the places of a longest sequence of hashes that both have.
func common(hashes []string, translated []Block) [][2]int {
	longest := make([][]int, len(hashes)+1)
	for i := range longest {
		longest[i] = make([]int, len(translated)+1)
	}
	for i := len(hashes) - 1; i >= 0; i-- {
		for j := len(translated) - 1; j >= 0; j-- {
			longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			if hashes[i] == translated[j].Of {
				longest[i][j] = max(longest[i][j], 1+longest[i+1][j+1])
			}
		}
	}
	var pairs [][2]int
	for i, j := 0, 0; i < len(hashes) && j < len(translated); {
		switch {
		case hashes[i] == translated[j].Of && longest[i][j] == 1+longest[i+1][j+1]:
			pairs = append(pairs, [2]int{i, j})
			i, j = i+1, j+1
		case longest[i+1][j] >= longest[i][j+1]:
			i++
		default:
			j++
		}
	}
	return pairs
}

var (
	heading  = regexp.MustCompile(`^(#+) (.*)$`)
	anchored = regexp.MustCompile(` *<a id="[^"]*"></a>$`)
	notWord  = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// withAnchor gives a translated heading the anchor of the English one, so that links lead
// there in both languages.
func withAnchor(english string, b Block) Block {
	if m := heading.FindStringSubmatch(english); m != nil && b.State != Missing {
		b.Text = fmt.Sprintf("%s <a id=%q></a>", WithoutAnchor(b.Text), Anchor(m[2]))
	}
	return b
}

// WithoutAnchor returns a heading without the anchor that follows a translated one.
func WithoutAnchor(heading string) string { return anchored.ReplaceAllString(heading, "") }

// Anchor returns the anchor that GitHub gives to a heading.
func Anchor(heading string) string {
	return strings.ReplaceAll(notWord.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}
