//go:build linux

package quiz

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"lesson/internal/progress"
	"lesson/internal/report"
)

// A Session asks a reader, who types the answers.
type Session struct {
	In      io.Reader
	Out     io.Writer
	Width   int                              // columns; 0 is 80
	Shuffle func(n int, swap func(i, j int)) // mixes the choices; nil leaves them
	// Finished, when not nil, is called after the last question of a chapter.
	Finished func(Chapter, Score) error
}

// A Score is how many questions were asked, answered, and answered rightly.
type Score struct {
	Right    int `json:"right"`
	Answered int `json:"answered"`
	Asked    int `json:"asked"`
}

// Section is the name of the section of the progress that keeps Scores.
const Section = "quiz"

// Scores are the last score of each chapter whose questions were asked to the end, by
// its file.
type Scores map[string]Score

// Valid reports a score that there cannot be.
func (s *Scores) Valid() error {
	for chapter, score := range *s {
		if score.Right < 0 || score.Right > score.Answered || score.Answered > score.Asked {
			return fmt.Errorf("%d right of %d of %d in %s", score.Right, score.Answered, score.Asked, chapter)
		}
	}
	return nil
}

// Remember keeps the score of a chapter.
func Remember(file progress.File, chapter string, score Score) error {
	scores := Scores{}
	return file.Update(Section, &scores, func() { scores[chapter] = score })
}

// errEnds reports that the reader has ended the quiz.
var errEnds = errors.New("no more")

// Ask asks all questions of these chapters, until "q" or the end of the input. The
// error is one of reading or writing.
func (s *Session) Ask(chapters []Chapter) (Score, error) {
	if s.Width == 0 {
		s.Width = 80
	}
	out := bufio.NewWriter(s.Out)
	in := bufio.NewReader(s.In)
	var score Score
	for _, c := range chapters {
		before := score
		fmt.Fprintf(out, "%s\n", c.Title)
		for i, q := range c.Questions {
			fmt.Fprintf(out, "\n%d of %d  ", i+1, len(c.Questions))
			score.Asked++
			right, err := s.one(in, out, q)
			switch {
			case err == nil && right:
				score.Answered++
				score.Right++
			case err == nil:
				score.Answered++
			case errors.Is(err, errEnds):
				return score, out.Flush()
			case !errors.Is(err, errSkipped):
				return score, errors.Join(err, out.Flush())
			}
			s.explain(out, c, q)
		}
		fmt.Fprintln(out)
		if s.Finished != nil {
			own := Score{
				score.Right - before.Right, score.Answered - before.Answered, score.Asked - before.Asked,
			}
			if err := s.Finished(c, own); err != nil {
				return score, errors.Join(err, out.Flush())
			}
		}
	}
	return score, out.Flush()
}

var errSkipped = errors.New("skipped")

// one asks one question.
func (s *Session) one(in *bufio.Reader, out *bufio.Writer, q Question) (right bool, err error) {
	fmt.Fprintln(out, hang("", "        ", q.Text, s.Width))
	fmt.Fprintln(out)
	order := make([]int, len(q.Choices))
	for i := range order {
		order[i] = i
	}
	if s.Shuffle != nil {
		s.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	correct := ""
	var letters []string
	for i, choice := range order {
		letter := string(rune('a' + i))
		letters = append(letters, letter)
		if choice == q.Right {
			correct = letter
		}
		fmt.Fprintln(out, hang("  "+letter+"  ", "     ", q.Choices[choice], s.Width))
	}
	fmt.Fprintln(out)
	for {
		fmt.Fprintf(out, "%s (Enter: show the answer; q: end) ", strings.Join(letters, ", "))
		if err := out.Flush(); err != nil {
			return false, err
		}
		line, err := in.ReadString('\n')
		typed := strings.ToLower(strings.TrimSpace(line))
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return false, err
		case typed == "" && err != nil, typed == "q":
			fmt.Fprintln(out)
			return false, errEnds
		case typed == "":
			fmt.Fprintf(out, "\nIt is %s.", correct)
			return false, errSkipped
		case typed == correct:
			fmt.Fprint(out, "\nYes.")
			return true, nil
		case strings.Contains(" "+strings.Join(letters, " ")+" ", " "+typed+" "):
			fmt.Fprintf(out, "\nNo, it is %s.", correct)
			return false, nil
		default:
			fmt.Fprintf(out, "\n%q is none of the answers.\n", typed)
		}
	}
}

func (s *Session) explain(out io.Writer, c Chapter, q Question) {
	fmt.Fprintf(out, "\n\n%s\n\n", plain(q.Reason, s.Width))
	if q.Proof != "" {
		fmt.Fprintf(out, "  see it   $ %s\n", q.Proof)
	}
	fmt.Fprintf(out, "  read     %s\n", c.Page)
}

var link = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

// plain is Markdown made fit for a terminal: paragraphs wrapped, links without their
// target, blocks of code and tables as they are.
func plain(markdown string, width int) string {
	const indent = "  "
	var lines []string
	var paragraph []string
	flush := func() {
		if len(paragraph) > 0 {
			lines = append(lines, report.Hang(indent, indent, strings.Join(paragraph, " "), width)...)
			paragraph = nil
		}
	}
	code := false
	for line := range strings.SplitSeq(markdown, "\n") {
		fence := strings.HasPrefix(line, "```")
		if fence {
			code = !code
		}
		line = strings.TrimSpace(line)
		switch {
		case fence:
			flush()
		case code || strings.HasPrefix(line, "|"):
			flush()
			lines = append(lines, indent+line)
		case line == "":
			flush()
			lines = append(lines, "")
		default:
			paragraph = append(paragraph, link.ReplaceAllString(line, "$1"))
		}
	}
	flush()
	return strings.Join(lines, "\n")
}

func hang(first, rest, text string, width int) string {
	return strings.Join(report.Hang(first, rest, text, width), "\n")
}
