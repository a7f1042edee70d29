package report

import (
	"strings"
	"testing"
)

func TestTables(t *testing.T) {
	tests := []struct {
		name     string
		table    Table
		terminal string
		markdown string
	}{
		{
			"words left and numbers right",
			Table{Head: []string{"server", "req/s"}, Left: 1,
				Rows: [][]string{{"epoll", "9"}, {"µ", "12345678"}}},
			"server     req/s\nepoll          9\nµ       12345678\n",
			"| server |    req/s |\n| ------ | -------: |\n| epoll  |        9 |\n" +
				"| µ      | 12345678 |\n",
		},
		{
			"rows of any length",
			Table{Head: []string{"a"}, Left: 9, Rows: [][]string{{"1", "2", "3"}, {}}},
			"a\n1  2  3\n\n",
			"| a   |     |     |\n| --- | --- | --- |\n| 1   | 2   | 3   |\n|     |     |     |\n",
		},
		{
			"what would be a command or markup",
			Table{Head: []string{"a|b"}, Left: 1, Rows: [][]string{{"\x1b[31m<b>"}, {"x\ny *_`"}}},
			"a|b\n\\x1b[31m<b>\nx\\ny *_`\n",
			"| a\\|b            |\n| --------------- |\n| \\\\x1b\\[31m\\<b\\> |\n| x y \\*\\_\\`      |\n",
		},
		{
			"numbers wherever they are",
			Table{Head: []string{"n", "who", "took"}, ByCell: true, Indent: "  ",
				Rows: [][]string{{"9", "a", "0.1 s"}, {"10", "2 of b", "–"}, {"11", "c", ""}}},
			"   n  who      took\n   9  a       0.1 s\n  10  2 of b      –\n  11  c\n",
			"|   n | who    |  took |\n| --: | ------ | ----: |\n|   9 | a      | 0.1 s |\n" +
				"|  10 | 2 of b |     – |\n|  11 | c      |       |\n",
		},
		{
			"without a head",
			Table{Rows: [][]string{{"a", "1"}}, Left: 2},
			"a  1\n", "|     |     |\n| --- | --- |\n| a   | 1   |\n",
		},
		{"nothing", Table{}, "", ""},
	}
	for _, test := range tests {
		var out strings.Builder
		test.table.Print(&out)
		if out.String() != test.terminal {
			t.Errorf("%s, printed:\n%q, want\n%q", test.name, out.String(), test.terminal)
		}
		if got := test.table.Markdown(); got != test.markdown {
			t.Errorf("%s, as Markdown:\n%q, want\n%q", test.name, got, test.markdown)
		}
	}
}

// A table that is too wide breaks heads first, then words, and never a number.
func TestTablesThatFit(t *testing.T) {
	table := Table{Left: 1, Head: []string{"server", "time it takes"}, Rows: [][]string{
		{"one of many servers", "1.5 ms"}, {"two", "20 ms"}}}
	for _, test := range []struct {
		width int
		want  string
	}{
		{0, "server               time it takes\n" +
			"one of many servers         1.5 ms\ntwo                          20 ms\n"},
		{34, "server               time it takes\n" +
			"one of many servers         1.5 ms\ntwo                          20 ms\n"},
		{30, "server               time it\n                       takes\n" +
			"one of many servers   1.5 ms\ntwo                    20 ms\n"},
		{22, "server         time\n                 it\n              takes\n" +
			"one of many  1.5 ms\nservers\ntwo           20 ms\n"},
		{1, "server     time\n             it\n          takes\n" +
			"one of   1.5 ms\nmany\nservers\ntwo       20 ms\n"},
	} {
		table.Width = test.width
		var out strings.Builder
		table.Print(&out)
		if out.String() != test.want {
			t.Errorf("%d columns:\n%s\nwant\n%s", test.width, out.String(), test.want)
		}
	}
}
