//go:build linux

package ptrace

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

//go:generate go run gen.go

// names takes callNames apart: names in the order of their numbers, and a number
// before a name that is not the next one's.
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

// Name is the name of a system call of this architecture, as the manual and
// strace have it: "accept4". One that is not known is "syscall 999".
func Name(number int) string {
	if name, known := names()[number]; known {
		return name
	}
	return fmt.Sprintf("syscall %d", number)
}
