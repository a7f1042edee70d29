//go:build linux

package tour

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"lesson/docs"
	"lesson/internal/book"
	"lesson/internal/play"
	"lesson/internal/words"
)

// settle is how long an exported scenario is recorded after its last act: the time
// that a server lingers for a client, and a little.
const settle = 1500 * time.Millisecond

// ErrForeign is the error of Export when the folder has a page that is not the tour's.
var ErrForeign = errors.New("its index.html is not a page of the tour")

// Export writes the tour to a folder, as files for any static host: the page, all
// chapters and sources, and each scenario as it was played to the columns. Files that
// it writes are replaced, others are left alone: also a page that is not the tour's,
// unless force is set. It does not write through a symbolic link that leads out of the
// folder. progress is called for each recording.
func (t *Tour) Export(ctx context.Context, dir string, force bool, progress func(string)) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	folder, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	to := site{folder}
	defer func() { err = errors.Join(err, folder.Close()) }()
	if !force && to.foreign() {
		return ErrForeign
	}
	index, err := t.exportLive(ctx, to)
	if err != nil {
		return err
	}
	if err := errors.Join(t.exportPage(to, index), t.exportBook(to)); err != nil {
		return err
	}
	// Side by side, for they spend their time waiting.
	const sideBySide = 3
	places := make(chan struct{}, sideBySide)
	var mu sync.Mutex
	var playing sync.WaitGroup
	for _, scenario := range play.Few() {
		playing.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			name := filepath.Join("data", "recording", scenario.Name+".json")
			failed := t.record(ctx, scenario, to, name)
			mu.Lock()
			defer mu.Unlock()
			if failed != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", scenario.Name, failed))
				return
			}
			progress(scenario.Name)
		})
	}
	playing.Wait()
	return err
}

// A site is the folder of an export. Nothing outside of it can be written.
type site struct{ *os.Root }

// live and static are how the page knows whether a server answers it.
const (
	live   = `<meta name="tour" content="live">`
	static = `<meta name="tour" content="static">`
)

// brand is the name on the page, beside which an export puts a link to its first page.
const (
	brand  = `lesson <strong>tour</strong>`
	toLive = ` <a href="index.html" data-words="live" data-words-aria-label="live.label"></a>`
)

// foreign reports whether the folder has a page that no export has written.
func (s site) foreign() bool {
	text, err := s.ReadFile("index.html")
	return !errors.Is(err, fs.ErrNotExist) && !bytes.Contains(text, []byte(static))
}

func (s site) write(name string, text []byte) error {
	if err := s.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return s.WriteFile(name, text, 0o644)
}

func (s site) writeJSON(name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return s.write(name, text)
}

// exportLive writes the page on which the lessons run in the browser, if there is one, as
// index.html. It returns the name that is left for the page of the tour.
func (t *Tour) exportLive(ctx context.Context, to site) (index string, err error) {
	const first, second = "index.html", "tour.html"
	if t.options.Live == nil {
		return first, nil
	}
	text, err := t.options.Live(ctx, second)
	if err != nil {
		return "", err
	}
	return second, to.write(first, text)
}

// exportPage writes the page under the name index. It finds out that no server answers it.
func (t *Tour) exportPage(to site, index string) error {
	if err := to.write(filepath.Join("assets", speechFile), []byte(words.Module)); err != nil {
		return err
	}
	return fs.WalkDir(page(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(page(), name)
		if err != nil {
			return err
		}
		path := filepath.Join("assets", name)
		if name == "index.html" {
			// No program sends the policy with the page, so the page brings it.
			const policy = `<meta http-equiv="Content-Security-Policy" content="` + pagePolicy + `">`
			if !bytes.Contains(text, []byte(live)) {
				return fmt.Errorf("index.html has no %s", live)
			}
			text = bytes.Replace(text, []byte(live), []byte(policy+"\n"+static), 1)
			if path = index; path != "index.html" {
				text = bytes.Replace(text, []byte(brand), []byte(brand+toLive), 1)
			}
		}
		return to.write(path, text)
	})
}

// exportBook writes what the page asks for as /api/book, chapter and source.
func (t *Tour) exportBook(to site) error {
	const data = "data"
	all := t.contents()
	if err := to.writeJSON(filepath.Join(data, "book.json"), all); err != nil {
		return err
	}
	for _, p := range all.Chapters {
		languages := []string{docs.English}
		if p.Chinese != "" {
			languages = append(languages, docs.Chinese)
		}
		for _, language := range languages {
			p, err := p.In(language)
			if err != nil {
				return err
			}
			rendered, err := p.Render()
			if err != nil {
				return err
			}
			name := filepath.Join(data, "chapter", language, filepath.FromSlash(p.ID)+".json")
			if err := to.writeJSON(name, rendered); err != nil {
				return err
			}
		}
	}
	for _, file := range book.Files() {
		text, err := t.text(file)
		if err != nil {
			return err
		}
		name := filepath.Join(data, "source", filepath.FromSlash(file)+".json")
		if err := to.writeJSON(name, source{file, book.Tokens(languageOf(file), text)}); err != nil {
			return err
		}
	}
	return nil
}

// record plays a scenario to the columns, in a session of its own, and saves it as a file
// of that name.
func (t *Tour) record(ctx context.Context, s play.Scenario, to site, name string) error {
	session, err := t.begin()
	if err != nil {
		return err
	}
	defer func() {
		session.end()
		<-session.ended
	}()
	done, err := session.follow() // else it would end by itself
	if err != nil {
		return err
	}
	defer done()
	for _, name := range t.options.Columns {
		if _, err := session.add(name); err != nil {
			return err
		}
	}
	if err := session.direct(scenarioOrder{Name: s.Name, Speed: t.speed}); err != nil {
		return err
	}
	session.mu.Lock()
	performed := session.performed
	session.mu.Unlock()
	select {
	case <-performed.Over():
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-time.After(time.Duration(float64(settle) / t.speed)):
	case <-ctx.Done():
		return ctx.Err()
	}
	var text bytes.Buffer
	if err := session.save(&text); err != nil {
		return err
	}
	return to.write(name, text.Bytes())
}
