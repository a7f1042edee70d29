//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/spf13/cobra"

	"lesson/docs"
	"lesson/internal/progress"
	"lesson/internal/report"
	"lesson/internal/tool/quiz"
)

func newQuiz() *cobra.Command {
	var list, asJSON bool
	var lang string
	cmd := &cobra.Command{
		Use:   "quiz [CHAPTER…]",
		Short: "Answer the questions of the chapters",
		Long: `Asks the questions at the end of the chapters. Choose an answer by its letter.
The quiz then prints the reason and, if there is one, the command that
demonstrates it. Enter alone shows the answer. q ends the quiz.

A CHAPTER is a number or a file. The default is all chapters.`,
		Example: `  lesson quiz 4
  lesson quiz 05-edge-triggered
  lesson quiz --list
  lesson quiz 4 --lang zh`,
		RunE: func(cmd *cobra.Command, args []string) error {
			language, err := docs.Language(lang, os.Getenv)
			if err != nil {
				return usageError{err}
			}
			all, err := quiz.Chapters(language)
			if err != nil {
				return err
			}
			chapters, err := quiz.Select(all, args)
			if err != nil {
				return usageError{err}
			}
			if list || asJSON {
				return printList(cmd, quiz.Listing(chapters), asJSON, chapters)
			}
			file, err := progress.Default()
			if err != nil {
				return cannotRun{err}
			}
			session := quiz.Session{
				In: cmd.InOrStdin(), Out: cmd.OutOrStdout(), Shuffle: rand.Shuffle,
				Width: min(report.Width(cmd.OutOrStdout()), 100),
				Finished: func(c quiz.Chapter, score quiz.Score) error {
					return quiz.Remember(file, c.File, score)
				},
			}
			score, err := session.Ask(chapters)
			fmt.Fprintf(cmd.OutOrStdout(), "%d of %d right\n", score.Right, score.Answered)
			return err
		},
	}
	cmd.Flags().BoolVar(&list, "list", false, "list the chapters with questions")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the questions with their answers as JSON")
	addLanguage(cmd, &lang)
	return cmd
}

// addLanguage adds a flag for the language in which a page is quoted.
func addLanguage(cmd *cobra.Command, lang *string) {
	cmd.Flags().StringVar(lang, "lang", "", "quote the pages in this `language`: "+docs.English+
		" or "+docs.Chinese+" (default: that of LC_ALL or LANG, if it is one of these)")
}
