//go:build linux

package exercise

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"lesson/internal/lesson"
	"lesson/internal/tool/check"
)

// A README of the right shape. Tests change a piece of it.
const goodReadme = `# 06 One read per edge

> "Big requests hang. Small ones
> are fine."

A server, edge-triggered: see [chapter 5](../../05-edge-triggered.md).

## First look

` + "```sh" + `
# comment
curl http://127.0.0.1:8080/
` + "```" + `

It hangs.

## Hints

<details><summary>Hint 1</summary>

Read.

</details>

<details><summary>Hint 2</summary>

Read again.

` + "```go" + `
## not a heading
</details>
` + "```" + `

</details>

<details><summary>Hint 3</summary>

Read up to EAGAIN.

</details>

## Solution

<details><summary>The change, and why it works</summary>

A loop around read.

### In the wild

It has happened.

</details>
`

// readmeFor is a README of the right shape for another number and chapter.
func readmeFor(number, title, chapter string) string {
	text := strings.Replace(goodReadme, "# 06 One read per edge", "# "+number+" "+title, 1)
	return strings.Replace(text, "05-edge-triggered.md", chapter, 1)
}

const brokenSource = `package main

func main() {
	println("broken")
}
`

const repairedSource = `package main

func main() {
	println("fixed")
}
`

const goodPatch = `--- a/main.go
+++ b/main.go
@@ -1,5 +1,5 @@
 package main
 
 func main() {
-	println("broken")
+	println("fixed")
 }
`

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

// fixture is the folder of a small gallery: three exercises, and things that
// are none.
func fixture() fstest.MapFS {
	folder := fstest.MapFS{
		"go.mod.txt":         file("module exercise\n\ngo 1.26.0\n"),
		"go.sum.txt":         file(""),
		"README.md":          file("# Exercises\n"),
		"tutorial/server.py": file("pass\n"),
	}
	for name, readme := range map[string]string{
		"01-last-chunk":        readmeFor("01", "The last chunk", "02-a-loop.md"),
		"06-one-read-per-edge": goodReadme,
		"16-unbounded-buffer":  readmeFor("16", "An unbounded buffer", "03-a-goroutine-each.md"),
	} {
		folder[name+"/main.go"] = file(brokenSource)
		folder[name+"/README.md"] = file(readme)
		folder[name+"/solution.patch"] = file(goodPatch)
		folder[name+"/cases.txt"] = file("requests/large\nrequests/split-terminator\n")
	}
	folder["16-unbounded-buffer/cases.txt"] = file("limits/endless\n")
	return folder
}

func loadFixture(t *testing.T, folder fs.FS) *Gallery {
	t.Helper()
	g, err := Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// cases are those that the fixture knows.
func cases() []check.Case {
	all, loop := lesson.Models(), []check.Model{check.Loop, check.Threaded, check.EventLoop}
	return []check.Case{
		{Address: "requests/whole", Models: all, Must: "a request is answered"},
		{Address: "requests/large", Models: all, Must: "a large one, too", Cause: "it reads once"},
		{Address: "requests/split-terminator", Models: all, Must: "however it is cut"},
		{Address: "limits/endless", Models: loop, Must: "memory stays bounded"},
		{Address: "slow/silent-client", Models: []check.Model{check.Threaded, check.EventLoop},
			Must: "no client waits for the silent", Cause: "it reads once"},
	}
}
