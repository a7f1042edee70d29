//go:build linux

package proc

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

//go:generate go run gen.go

// names parses callNames: names in the order of their numbers, and a number
// before each name whose number is not the next one.
var names = sync.OnceValue(func() map[int]string {
	table := map[int]string{}
	number := 0
	for word := range strings.FieldsSeq(callNames) {
		if n, err := strconv.Atoi(word); err == nil {
			number = n
			continue
		}
		table[number] = word
		number++
	}
	return table
})

// CallName returns the name of a system call of this architecture, as in the manual and
// in strace: "accept4". An unknown one is "syscall 999".
func CallName(number int) string {
	if name, known := names()[number]; known {
		return name
	}
	return fmt.Sprintf("syscall %d", number)
}
