// Package site writes the lessons as one page that runs them in the browser, over the
// simulated kernel: see docs/tour.md. It needs the go command, and neither Linux nor a
// network.
package site

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"strings"

	"lesson/docs"
	"lesson/internal/tool/explore"
	"lesson/internal/words"
)

// The page is one file that loads nothing, so it works from a folder and without a
// network. Its policy lets only its own style, scripts and module be used.
var (
	//go:embed page/index.html
	pageHTML string
	//go:embed page/site.css
	pageCSS string
	//go:embed page/site.js
	pageJS string
	//go:embed page/quiz.js
	quizJS string
	//go:embed page/words/en.js
	english string
	//go:embed page/words/zh.js
	chinese string
)

// A Server is one that a reader of the page can act on.
type Server struct {
	Name  string   `json:"name"`
	Title string   `json:"title"`
	Files []string `json:"files"` // its source, as steps name it
	Run   string   `json:"run"`   // the command that runs it on Linux
	Page  string   `json:"page"`  // of the chapters: the one about it
}

// Servers are those of the page, in the order of its list.
var Servers = []Server{
	{"blocking", "one blocking accept: one client, then done", []string{"blocking/once.go"},
		"lesson blocking --trace", "01-one-client"},
	{"loop", "the accept loop: one client at a time", []string{"blocking/loop.go", "blocking/once.go"},
		"lesson loop --trace", "02-a-loop"},
	{"threaded", "a goroutine, and an OS thread, per connection",
		[]string{"threaded/threaded.go", "blocking/once.go"}, "lesson threaded --trace", "03-a-goroutine-each"},
	{"epoll", "one event loop, level-triggered epoll", []string{"epoll/eventloop.go"},
		"lesson epoll --trace", "04-level-triggered"},
	{"edgetriggered", "one event loop, edge-triggered epoll", []string{"edgetriggered/eventloop.go"},
		"lesson edgetriggered --trace", "05-edge-triggered"},
	{"02-end-of-file-spin", "broken: level-triggered, ignores the end of file",
		[]string{"02-end-of-file-spin/main.go"}, "lesson exercise start 2", "exercises/02-end-of-file-spin"},
	{"06-one-read-per-edge", "broken: edge-triggered, one read for each edge",
		[]string{"06-one-read-per-edge/main.go"}, "lesson exercise start 6", "exercises/06-one-read-per-edge"},
	{"07-one-accept-per-edge", "broken: edge-triggered, one accept for each edge",
		[]string{"07-one-accept-per-edge/main.go"}, "lesson exercise start 7", "exercises/07-one-accept-per-edge"},
	{"23-not-armed", "broken: EPOLLONESHOT, and not armed again",
		[]string{"23-not-armed/main.go"}, "lesson exercise start 23", "exercises/23-not-armed"},
}

// A Scenario is acts that show something, in the words of explore.Perform.
type Scenario struct {
	Title string `json:"title"`
	Acts  string `json:"acts"`
}

// Scenarios are those of the page. Each can be played to every server.
var Scenarios = []Scenario{
	{"a request in two pieces", "ac-ah-ar"},
	{"a client that never finishes its request", "ac-ah-m"},
	{"one waits, and another asks", "ac-ah-bc-bw"},
	{"two connect at the same moment, and ask", "abc-abw"},
	{"a long request", "ac-al"},
	{"a half-close after the request", "ac-aw-ae"},
	{"end of file before the request is complete", "ac-ah-ae"},
	{"a reset in the middle of a request", "ac-ah-ax-bc-bw"},
	{"a client that stays after its answer", "ac-aw-t"},
}

// A Story is an order of events in which a server goes wrong, as `lesson explore` has found it.
type Story struct {
	Title  string `json:"title"`
	Server string `json:"server"`
	Order  string `json:"order"` // what --replay takes
}

// Stories are those of the page.
var Stories = []Story{
	{"a client leaves, and the server spins", "02-end-of-file-spin", "leaves:all:0"},
	{"the rest of a long request is not read", "06-one-read-per-edge", "long-request:all:0"},
	{"accept4 fails once, and the client stays in the accept queue", "07-one-accept-per-edge", "one:all:5.1"},
	{"the second part of a request brings no event", "23-not-armed", "long-request:all:b.8"},
}

// exercise reports whether the server is one of docs/exercises.
func (s Server) exercise() bool { return strings.HasSuffix(s.Files[0], "/main.go") }

// source returns a file of the server, by its name in steps.
func (s Server) source(name string) (string, error) {
	if s.exercise() {
		text, err := docs.Exercises.ReadFile("exercises/" + name)
		return string(text), err
	}
	folder, file, _ := strings.Cut(name, "/")
	text, err := fs.ReadFile(packages[folder], file)
	return string(text), err
}

// Page compiles the lessons for the browser, and returns the page. book is where its
// link to the chapters leads; "" for none.
func Page(ctx context.Context, book string) ([]byte, error) {
	data := struct {
		Servers   []Server          `json:"servers"`
		Scenarios []Scenario        `json:"scenarios"`
		Stories   []Story           `json:"stories"`
		Sources   map[string]string `json:"sources"`
		Book      string            `json:"book"`
	}{Servers, Scenarios, Stories, make(map[string]string), book}
	for _, s := range Servers {
		for _, name := range s.Files {
			text, err := s.source(name)
			if err != nil {
				return nil, err
			}
			data.Sources[name] = text
		}
	}
	text, err := json.Marshal(data) // without <, > and &: they would end the script
	if err != nil {
		return nil, err
	}
	tables, err := tables()
	if err != nil {
		return nil, err
	}
	said, err := json.Marshal(tables) // as above
	if err != nil {
		return nil, err
	}
	questions, err := questions()
	if err != nil {
		return nil, err
	}
	asked, err := json.Marshal(questions) // as above
	if err != nil {
		return nil, err
	}
	p, err := compile(ctx)
	if err != nil {
		return nil, err
	}
	style := explore.ViewerCSS + pageCSS
	script := p.glue + words.Script() + explore.ViewerJS + pageJS + quizJS
	policy := fmt.Sprintf("default-src 'none'; img-src data:; style-src %s; script-src 'wasm-unsafe-eval' %s",
		hash(style), hash(script))
	page := strings.NewReplacer("POLICY", policy, "STYLE", style, "WORDS", string(said), "DATA", string(text), "QUIZ", string(asked),
		"WASM", base64.StdEncoding.EncodeToString(p.wasm), "SCRIPT", script).Replace(pageHTML)
	return []byte(page), nil
}

// tables returns what the page says in each language, by key.
func tables() (map[string]map[string]string, error) {
	english, err := words.Table(english)
	if err != nil {
		return nil, err
	}
	viewer, err := explore.ViewerWords()
	if err != nil {
		return nil, err
	}
	maps.Copy(english, viewer)
	chinese, err := words.Table(chinese)
	return map[string]map[string]string{"en": english, "zh": chinese}, err
}

// hash names a style or a script in a Content-Security-Policy.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}
