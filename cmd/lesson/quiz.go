//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/spf13/cobra"

	"lesson/internal/progress"
	"lesson/internal/report"
	"lesson/internal/tool/quiz"
)

func newQuiz() *cobra.Command {
	var list, asJSON bool
	cmd := &cobra.Command{
		Use:   "quiz [CHAPTER…]",
		Short: "The chapters' questions, to answer by choice",
		Long: `Asks the questions at the end of the chapters. Choose an answer by its letter; then
comes the reason, and where it can be seen, the command that shows it. Enter alone
tells the answer, q ends.

A CHAPTER is a number or a file. Without one, all are asked.`,
		Example: `  lesson quiz 4
  lesson quiz 05-edge-triggered
  lesson quiz --list`,
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := quiz.Chapters()
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
	cmd.Flags().BoolVar(&list, "list", false, "list the chapters that ask questions")
	cmd.Flags().BoolVar(&asJSON, "json", false, "the questions with their answers, for machines")
	return cmd
}
