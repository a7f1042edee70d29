package words

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"
)

// Sources holds the source of the package, for the lessons' build for the browser.
//
//go:embed words.go
var Sources embed.FS

// Module is the script of the pages, as a module that exports speech.
//
//go:embed speech.js
var Module string

// Script returns it for a page whose script is no module.
func Script() string {
	return "\"use strict\";\n" + strings.Replace(Module, "export function", "function", 1)
}

// Table reads a page's table of one language: a script that exports one object, which is
// written as JSON.
func Table(script string) (map[string]string, error) {
	_, object, found := strings.Cut(script, "export default ")
	if !found {
		return nil, fmt.Errorf("a table of words has no %q", "export default")
	}
	var table map[string]string
	if err := json.Unmarshal([]byte(strings.TrimRight(object, ";\n")), &table); err != nil {
		return nil, fmt.Errorf("a table of words: %w", err)
	}
	return table, nil
}
