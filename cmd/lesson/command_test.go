//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lesson/internal/lesson"
)

// commands is every command of the program, but for the one that cobra makes.
func commands() []*cobra.Command { return withSubcommands(newRoot()) }

func withSubcommands(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		if sub.Name() != "completion" {
			all = append(all, withSubcommands(sub)...)
		}
	}
	return all
}

// run runs the command line and returns what it prints to stdout.
func run(t *testing.T, args ...string) string {
	t.Helper()
	root := newRoot()
	var out strings.Builder
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	if err := root.Execute(); err != nil {
		t.Errorf("lesson %s: %v", strings.Join(args, " "), err)
	}
	return out.String()
}

func TestHelp(t *testing.T) {
	for _, cmd := range commands() {
		path := strings.Fields(cmd.CommandPath())[1:]
		help := run(t, append(path, "--help")...)
		for what, text := range map[string]string{
			"what it does": strings.TrimSpace(cmd.Long + cmd.Short), "examples": cmd.Example,
		} {
			if text == "" {
				t.Errorf("lesson %s has no text for %s", cmd.Name(), what)
			}
		}
		if !strings.Contains(help, "Examples:\n"+cmd.Example) {
			t.Errorf("the help of lesson %s does not show its examples:\n%s", cmd.Name(), help)
		}
		// A command is listed where people look for it.
		if cmd.HasParent() && !cmd.Hidden {
			above := append(path[:len(path)-1:len(path)-1], "--help")
			if !strings.Contains(run(t, above...), "\n  "+cmd.Name()+" ") {
				t.Errorf("%s does not list %s", cmd.Parent().CommandPath(), cmd.Name())
			}
		}
		if strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("lesson %s: a sentence and not a short text: %q", cmd.Name(), cmd.Short)
		}
		for line := range strings.Lines(help) {
			if utf8.RuneCountInString(strings.TrimRight(line, "\n")) > 80 {
				t.Errorf("the help of lesson %s has a line of more than 80 columns: %q", cmd.Name(), line)
			}
		}
	}
}

func TestFlagsAreDocumented(t *testing.T) {
	for _, cmd := range commands() {
		help := run(t, append(strings.Fields(cmd.CommandPath())[1:], "--help")...)
		cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) {
			if flag.Hidden {
				return
			}
			kind := flag.Value.Type()
			if kind != "string" && kind != "stringArray" && wanted[kind] == "" {
				t.Errorf("lesson %s: no hint for a bad value of --%s", cmd.Name(), flag.Name)
			}
			value, usage := pflag.UnquoteUsage(flag)
			if usage == "" {
				t.Errorf("lesson %s: --%s is not documented", cmd.Name(), flag.Name)
			}
			line := "--" + flag.Name
			if flag.Value.Type() != "bool" {
				line += " " + value
			}
			if !strings.Contains(help, line) || !strings.Contains(unbroken(help), unbroken(usage)) {
				t.Errorf("the help of lesson %s does not show %q, %q:\n%s",
					cmd.Name(), line, usage, help)
			}
		})
	}
}

// unbroken returns a text in one line.
func unbroken(text string) string { return strings.Join(strings.Fields(text), " ") }

// shellWords is the words of a command, of which some are in single quotes.
func shellWords(command string) []string {
	var words []string
	for i, part := range strings.Split(command, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

// An example that does not work is worse than none.
func TestExamplesWork(t *testing.T) {
	for _, cmd := range commands() {
		count := 0
		for line := range strings.Lines(cmd.Example) {
			command, _, _ := strings.Cut(strings.TrimSpace(line), "  ") // the rest explains it
			command, _, _ = strings.Cut(command, " | ")
			command, _, _ = strings.Cut(command, " && ")
			words := shellWords(command)
			if len(words) == 0 || words[0] != "lesson" {
				t.Errorf("lesson %s: not an example of it: %q", cmd.Name(), line)
				continue
			}
			count++
			found, rest, err := newRoot().Find(words[1:])
			if err == nil {
				err = found.ParseFlags(rest)
			}
			if err == nil {
				err = found.ValidateArgs(found.Flags().Args())
			}
			if err != nil {
				t.Errorf("the example %q does not work: %v", command, err)
			}
		}
		if count == 0 {
			t.Errorf("lesson %s has no examples", cmd.Name())
		}
	}
}

func TestListJSON(t *testing.T) {
	var listed []lesson.Lesson
	if err := json.Unmarshal([]byte(run(t, "list", "--json")), &listed); err != nil {
		t.Fatal(err)
	}
	table := unbroken(run(t, "list"))
	known := lesson.All()
	if len(listed) != len(known) {
		t.Fatalf("%d lessons, want %d", len(listed), len(known))
	}
	for i, l := range listed {
		want := known[i]
		if l.Step != want.Step || l.Name != want.Name || l.Title != want.Title ||
			l.Command != want.Command || l.Chapter != want.Chapter ||
			strings.Join(l.Files, " ") != strings.Join(want.Files, " ") ||
			l.Model != want.Model || l.Untraced != want.Untraced {
			t.Errorf("lesson %d is %+v, want %+v", i, l, want)
		}
		for _, text := range append(l.Files, l.Command, l.Title, l.Chapter) {
			if !strings.Contains(table, text) {
				t.Errorf("lesson list does not show %q", text)
			}
		}
		for _, file := range l.Files {
			onDisk, err := os.ReadFile(filepath.Join(repository, file))
			if err != nil {
				t.Error(err)
			}
			if source, err := lesson.Source(file); err != nil || source != string(onDisk) {
				t.Errorf("the source of %s that the program carries is another (%v)", file, err)
			}
		}
		// Its command is one.
		found, rest, err := newRoot().Find(strings.Fields(l.Command)[1:])
		if err == nil {
			err = found.ParseFlags(rest)
		}
		if err != nil || found == nil || !found.HasParent() {
			t.Errorf("%q does not work: %v", l.Command, err)
		}
	}
}

// Shells complete the names of lessons and of commands. (What the shells need:
// tools.txtar.)
func TestCompletion(t *testing.T) {
	got := run(t, "__complete", "diff", "")
	for _, l := range lesson.All() {
		if !strings.Contains(got, l.Name+"\n") {
			t.Errorf("%s is not offered:\n%s", l.Name, got)
		}
	}
	for args, want := range map[string]string{
		"help ": "\nexercise\tFix servers", "help exercise ": "start\tMake a copy", "help nosuch ": ":4\n",
	} {
		got := run(t, append([]string{"__complete"}, strings.Split(args, " ")...)...)
		if !strings.Contains("\n"+got, want) {
			t.Errorf("lesson %s: %q is not offered:\n%s", args, want, got)
		}
	}
}
