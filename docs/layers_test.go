//go:build linux

package docs_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const architecture = "docs/ARCHITECTURE.md"

// sameLayer is the one import within a layer that the page allows.
const sameLayer = "threaded imports blocking"

// layerRow is a row of the table: layer, package, link, job.
var layerRow = regexp.MustCompile(`(?m)^\| (\d+) \| \[([^\]]+)\]\(([^)]+)\) \| ([^|]+) \|$`)

// Every package is in the table once, and imports only packages of lower layers.
func TestLayers(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, architecture))
	if err != nil {
		t.Fatal(err)
	}
	layers := make(map[string]int)
	last := 0
	for _, row := range layerRow.FindAllStringSubmatch(string(text), -1) {
		layer, _ := strconv.Atoi(row[1]) // the expression matches digits only
		if layers[row[2]] != 0 {
			t.Errorf("%s lists %s twice: remove one row", architecture, row[2])
		}
		if layer < last {
			t.Errorf("%s lists %s below layer %d: sort the rows", architecture, row[2], last)
		}
		if linked := filepath.Join("docs", row[3]); linked != row[2] {
			t.Errorf("%s: the row of %s links to %s", architecture, row[2], linked)
		}
		layers[row[2]], last = layer, layer
	}
	for _, err := range checkLayers(layers, imports(t)) {
		t.Error(err)
	}
}

// imports returns the packages of the module, each with the packages of the module that
// it imports, without the imports of tests. Programs are left out, unless they import a
// package of the module.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	list := exec.Command("go", "list", "-json=ImportPath,Name,Imports", "./...")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	graph := make(map[string][]string)
	for decoder := json.NewDecoder(strings.NewReader(string(out))); decoder.More(); {
		var p struct {
			ImportPath, Name string
			Imports          []string
		}
		if err := decoder.Decode(&p); err != nil {
			t.Fatal(err)
		}
		name, _ := ours(p.ImportPath)
		var imported []string
		for _, path := range p.Imports {
			if path, ok := ours(path); ok {
				imported = append(imported, path)
			}
		}
		if p.Name == "main" && imported == nil {
			continue
		}
		graph[name] = imported
	}
	return graph
}

// ours returns the path of a package from the root of the repository, and whether the
// package belongs to the module.
func ours(path string) (string, bool) { return strings.CutPrefix(path, "lesson/") }

// checkLayers returns what differs between the table and the imports, in a fixed order.
func checkLayers(layers map[string]int, imports map[string][]string) []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(imports)) {
		layer, listed := layers[name]
		if !listed {
			errs = append(errs, fmt.Errorf("%s does not list %s: "+
				"add a row with its layer, its link and its job", architecture, name))
			continue
		}
		for _, imported := range imports[name] {
			below, listed := layers[imported]
			if !listed || below < layer || name+" imports "+imported == sameLayer {
				continue
			}
			errs = append(errs, fmt.Errorf("%s (layer %d) imports %s (layer %d): "+
				"a package imports only lower layers; move what both need to a lower layer, "+
				"or pass it in from above", name, layer, imported, below))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(layers)) {
		if _, exists := imports[name]; !exists {
			errs = append(errs, fmt.Errorf("%s lists %s, which is not a package: remove the row",
				architecture, name))
		}
	}
	return errs
}

func TestCheckLayers(t *testing.T) {
	layers := map[string]int{"blocking": 3, "threaded": 3, "epoll": 3, "kernel": 1}
	good := map[string][]string{
		"blocking": {"kernel"}, "threaded": {"kernel", "blocking"}, "epoll": {"kernel"},
		"kernel": nil,
	}
	tests := []struct {
		change  string
		name    string
		imports []string
		want    string // one of the words of the message
	}{
		{"nothing", "epoll", []string{"kernel"}, ""},
		{"an import of the same layer", "epoll", []string{"blocking"}, "epoll (layer 3) imports"},
		{"the exception, reversed", "blocking", []string{"threaded"}, "blocking (layer 3) imports"},
		{"an import of a higher layer", "kernel", []string{"epoll"}, "kernel (layer 1) imports"},
		{"a package without a row", "report", nil, "does not list report"},
	}
	for _, test := range tests {
		graph := maps.Clone(good)
		graph[test.name] = test.imports
		errs := checkLayers(layers, graph)
		switch {
		case test.want == "" && len(errs) > 0:
			t.Errorf("%s: %v", test.change, errs)
		case test.want != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), test.want)):
			t.Errorf("%s: %v, want %q", test.change, errs, test.want)
		}
	}
	delete(good, "epoll")
	if errs := checkLayers(layers, good); len(errs) != 1 {
		t.Errorf("a row without a package: %v, want one error", errs)
	}
}
