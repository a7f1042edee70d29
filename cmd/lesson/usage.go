//go:build linux

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lesson/internal/lesson"
)

// A usageError is an error in the command line: exit status 2.
type usageError struct{ error }

// wrongUsage returns a usageError that ends with where to find help.
func wrongUsage(cmd *cobra.Command, err error) error {
	return usageError{fmt.Errorf("%w; see: %s --help", err, cmd.CommandPath())}
}

// markUsageErrors makes every error about flags and arguments a usageError
// that ends with where to find help.
func markUsageErrors(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return wrongUsage(cmd, plainFlagError(err))
	})
	if !cmd.Runnable() { // otherwise cobra does not check the arguments
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	if args := cmd.Args; args != nil {
		cmd.Args = func(cmd *cobra.Command, given []string) error {
			err := args(cmd, given)
			switch {
			case err == nil:
				return nil
			case cmd.HasSubCommands():
				return unknownCommand(cmd, given[0])
			}
			// cobra does not name the arguments
			return wrongUsage(cmd, fmt.Errorf("wrong number of arguments: %d; usage: %s",
				len(given), cmd.UseLine()))
		}
	}
	for _, child := range cmd.Commands() {
		markUsageErrors(child)
	}
}

// wanted is what to give for a flag, by the type of its value.
var wanted = map[string]string{
	"bool":        "true or false",
	"duration":    "a time with its unit, as in 500ms or 10s",
	"float64":     "a number",
	"int":         "a whole number",
	"intSlice":    "whole numbers, separated by commas",
	"stringSlice": "names, separated by commas",
	"uint64":      "a whole number, 0 or more",
}

// plainFlagError replaces the words of Go's parsers by what to give instead.
func plainFlagError(err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	text := strings.TrimSuffix(err.Error(), invalid.Unwrap().Error())
	return errors.New(text + "give " + wanted[invalid.GetFlag().Value.Type()])
}

// unknownCommand returns an error for a name that is no command of cmd, with the commands
// that may be meant.
func unknownCommand(cmd *cobra.Command, name string) error {
	err := fmt.Errorf("unknown command %q for %q", name, cmd.CommandPath())
	if l, failed := lesson.Find(name); failed == nil {
		return usageError{fmt.Errorf("%w; to run this lesson, type: %s", err, l.Command)}
	}
	cmd.SuggestionsMinimumDistance = min(2, len(name)/2) // letters that may differ
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		return usageError{fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, ", "))}
	}
	return wrongUsage(cmd, err)
}

// outside returns an error for a value that is out of bounds.
func outside(flag string, value, least, most int) error {
	return usageError{fmt.Errorf("--%s must be from %d to %d, not %d", flag, least, most, value)}
}

// atLeast returns an error if a flag was given a value below least.
func atLeast[N int | time.Duration](cmd *cobra.Command, flag string, value, least N) error {
	if value >= least || !cmd.Flags().Changed(flag) {
		return nil
	}
	return usageError{fmt.Errorf("--%s must be at least %v, not %v", flag, least, value)}
}

// exclude returns an error if a flag was given with one of the others.
func exclude(cmd *cobra.Command, flag string, others ...string) error {
	for _, other := range others {
		if cmd.Flags().Changed(flag) && cmd.Flags().Changed(other) {
			return usageError{fmt.Errorf("--%s and --%s exclude each other; leave one of them out",
				flag, other)}
		}
	}
	return nil
}

// needs returns an error if a flag was given without another, without which it does nothing.
func needs(cmd *cobra.Command, flag, other string) error {
	if cmd.Flags().Changed(flag) && !cmd.Flags().Changed(other) {
		return usageError{fmt.Errorf("--%s does nothing without --%[2]s; add --%[2]s, or leave --%[1]s out",
			flag, other)}
	}
	return nil
}

// refuseEmptyLists returns an error if a flag was given a list without a name or a number.
func refuseEmptyLists(cmd *cobra.Command, _ []string) (err error) {
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if list, ok := flag.Value.(pflag.SliceValue); ok && len(list.GetSlice()) == 0 {
			err = wrongUsage(cmd, fmt.Errorf("--%s is empty: give %s", flag.Name, wanted[flag.Value.Type()]))
		}
	})
	return err
}
