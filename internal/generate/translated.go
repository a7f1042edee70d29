//go:build linux

package main

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"lesson/internal/translation"
)

// translated fills in the translated pages that there are, by their paths from root. files
// has the English pages that are generated; the others are read. To begin the translation
// of a page, make an empty file at its place.
func translated(root string, files map[string][]byte, counts map[string]string) (map[string][]byte, error) {
	is := map[string]string{}
	err := filepath.WalkDir(filepath.Join(root, translation.Root), func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil || !translation.Holds(name) {
			return err
		}
		text, err := os.ReadFile(file)
		is[name] = string(text)
		return err
	})
	if err != nil {
		return nil, err
	}
	filled, err := fillTranslated(root, is, nil, files, counts)
	if err != nil {
		return nil, err
	}
	known := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(filled)) {
		translation.Learn(known, string(filled[name]))
	}
	return fillTranslated(root, is, known, files, counts)
}

// fillTranslated fills in the pages that are, with what is known of blocks that lack a
// translation.
func fillTranslated(root string, is, known map[string]string, files map[string][]byte,
	counts map[string]string) (map[string][]byte, error) {
	all := map[string][]byte{}
	for name, text := range is {
		original := translation.Original(name)
		english, generated := files[original]
		if !generated {
			var err error
			if english, err = os.ReadFile(filepath.Join(root, original)); err != nil {
				return nil, fmt.Errorf("%s translates a page that does not exist: %w", name, err)
			}
		}
		page := translation.Page{At: name, English: string(english), Translated: text, Known: known,
			Exists: func(file string) bool {
				_, page := is[file]
				_, folder := is[path.Join(file, "README.md")]
				return page || folder
			}}
		filled, err := fillCounts(page.Fill(), counts)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all[name] = []byte(filled)
	}
	return all, nil
}

// untranslated says which translated pages have blocks that are stale or have no
// translation, a line for each.
func untranslated(files map[string][]byte) []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !translation.Holds(name) {
			continue
		}
		counts := translation.Counts(string(files[name]))
		if stale, missing := counts[translation.Stale], counts[translation.Missing]; stale+missing > 0 {
			lines = append(lines, fmt.Sprintf("%s: %d blocks are stale, %d have no translation, %d are current",
				name, stale, missing, counts[translation.Current]))
		}
	}
	return lines
}
