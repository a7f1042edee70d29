//go:build linux

package check

import "strconv"

func callName(nr int) string { return "system call " + strconv.Itoa(nr) }
