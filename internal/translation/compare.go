package translation

import (
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Root is the folder of the translated pages. Each is at the place in it that the English
// one has in docs.
const Root = "docs/zh"

// Terms is the table of terms: how each is translated, and how not. It translates no page.
const Terms = Root + "/terms.md"

const readme = "README.md"

// Holds reports whether a path in the repository is that of a translated page.
func Holds(file string) bool { return strings.HasPrefix(file, Root+"/") && file != Terms }

// Original returns the path of the English page that a page in Root translates.
func Original(translated string) string {
	if translated == path.Join(Root, readme) {
		return readme
	}
	return path.Join("docs", strings.TrimPrefix(translated, Root))
}

// Place returns the path at which the translation of an English page is.
func Place(english string) string {
	if english == readme {
		return path.Join(Root, readme)
	}
	return path.Join(Root, strings.TrimPrefix(english, "docs"))
}

var link = regexp.MustCompile(`\]\(([^)\s]*)\)`)

// Links returns a block of the translated page at that path, with its links leading from
// there: to translated pages where exists knows them, to the English ones elsewhere. A
// link may be as it is in the English block, or as an earlier call has left it.
func Links(english, translated, at string, exists func(file string) bool) string {
	return relink(english, translated, at, func(_, file string) string {
		if exists(Place(file)) {
			return from(at, Place(file))
		}
		return from(at, file)
	})
}

// relink gives each relative link of a block the target that to returns for it: of the
// target in the English block, and of the file that this is.
func relink(english, translated, at string, to func(target, file string) string) string {
	leads := map[string]string{}
	for _, m := range link.FindAllStringSubmatch(english, -1) {
		target, anchor, _ := strings.Cut(m[1], "#")
		if target == "" || strings.Contains(target, ":") {
			continue
		}
		file := path.Join(path.Dir(Original(at)), target)
		for _, form := range []string{target, from(at, file), from(at, Place(file))} {
			leads[withFragment(form, anchor)] = withFragment(to(target, file), anchor)
		}
	}
	return link.ReplaceAllStringFunc(translated, func(text string) string {
		if to, known := leads[link.FindStringSubmatch(text)[1]]; known {
			return "](" + to + ")"
		}
		return text
	})
}

// from returns the relative path from a page to a file.
func from(page, file string) string {
	to, err := filepath.Rel(path.Dir(page), file)
	if err != nil {
		return file // both are relative to the same folder, so this does not happen
	}
	return filepath.ToSlash(to)
}

func withFragment(target, anchor string) string {
	if anchor == "" {
		return target
	}
	return target + "#" + anchor
}

var (
	codeSpan = regexp.MustCompile("``.*?``|`[^`]+`")
	tag      = regexp.MustCompile(`<!--.*?-->|</?[a-z]+[^>]*>`)
	address  = regexp.MustCompile(`https?://[^\s)>]+`)
	number   = regexp.MustCompile(`\d+(?:[.,]\d+)*`)
)

// Differences says what a translated block has lost or added: code, links, numbers and
// form must be those of the English one, whatever the order of its words.
func Differences(english, translated, at string, exists func(file string) bool) []string {
	if strings.Contains(english, Root) { // the line that leads from each language to the other
		return Style(translated)
	}
	english = Links(english, english, at, exists)
	var wrong []string
	same := func(what string, is, want []string) {
		if !slices.Equal(is, want) {
			wrong = append(wrong, fmt.Sprintf("%s: %q, in English %q", what, is, want))
		}
	}
	// A language may have to say a name twice where another says "it".
	once := func(all []string) []string {
		slices.Sort(all)
		return slices.Compact(all)
	}
	same("links", once(targets(translated)), once(targets(english)))
	same("code", once(spans(translated)), once(spans(english)))
	same("numbers", once(numbers(translated)), once(numbers(english)))
	same("form", form(translated), form(english))
	return append(wrong, Style(translated)...)
}

func targets(block string) []string {
	var all []string
	for _, m := range link.FindAllStringSubmatch(block, -1) {
		all = append(all, m[1])
	}
	return append(all, address.FindAllString(link.ReplaceAllString(block, "]"), -1)...)
}

// command is the line of a quiz with the command that proves an answer.
var command = regexp.MustCompile(`(?m)^\$ .*$`)

func spans(block string) []string {
	all := append(codeSpan.FindAllString(block, -1), command.FindAllString(block, -1)...)
	for i, span := range all {
		all[i] = strings.Join(strings.Fields(span), " ") // a line may break in it
	}
	return all
}

// words returns a block without what is the same in every language.
func words(block string) string {
	for _, not := range []*regexp.Regexp{codeSpan, tag, address} {
		block = not.ReplaceAllString(block, "`")
	}
	return link.ReplaceAllString(block, "]")
}

func numbers(block string) []string {
	return number.FindAllString(words(block), -1)
}

// form returns how each line begins that is not just more of a paragraph.
func form(block string) []string {
	var all []string
	for line := range strings.Lines(block) {
		m := begins.FindString(line)
		if strings.HasPrefix(m, "|") {
			m = strings.Repeat("|", strings.Count(codeSpan.ReplaceAllString(line, ""), "|"))
		}
		if m != "" {
			all = append(all, m)
		}
	}
	return all
}

var begins = regexp.MustCompile(`^ *(#+ |[-*+?$] |\d+\. |> ?|\||<details><summary>|</?[a-z]+>)`)

var (
	han      = `\p{Han}`
	marked   = regexp.MustCompile(`[，。；：！？、）」》]\*\*[\p{L}\p{N}]`)
	unspaced = regexp.MustCompile("[" + han + "][A-Za-z0-9`]|[A-Za-z0-9%`][" + han + "]")
	halfMark = regexp.MustCompile("[" + han + "] ?[,.;:!?](?:[^\\w./-]|$)|[" + han + "]\\(|\\)[" + han + "]")
	spaced   = regexp.MustCompile("[，。；：！？、）」》] +[" + han + "`A-Za-z0-9]|[" + han + "`A-Za-z0-9] +[，。；：！？、（「《]")
)

// Style says what is not as Chinese is set beside Latin letters: a space between the two
// and around code, no space beside a full-width mark, and full-width marks in Chinese. Bold
// text must not end with a mark: before a letter, CommonMark does not take that for an end.
func Style(block string) []string {
	text := link.ReplaceAllString(tag.ReplaceAllString(block, ""), "]")
	text = codeSpan.ReplaceAllString(text, "`x`")
	plain := strings.NewReplacer("[", "", "]", "", "*", "").Replace(text)
	var wrong []string
	for _, rule := range []struct {
		what string
		is   *regexp.Regexp
		in   string
	}{
		{"a space is missing", unspaced, plain},
		{"a half-width mark", halfMark, plain},
		{"a space beside a full-width mark", spaced, plain},
		{"a mark at the end of bold", marked, text},
	} {
		for _, found := range rule.is.FindAllString(rule.in, -1) {
			wrong = append(wrong, fmt.Sprintf("%s: %q", rule.what, found))
		}
	}
	return wrong
}
