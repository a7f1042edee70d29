//go:build linux

package lesson_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lesson/internal/proof"
)

// A test is worth what it notices. Here each lesson is changed in one place at a time,
// and the behaviour table on the simulated kernel must fail. All mutants of the lessons
// are in one program, which is built once: an environment variable chooses the mutant.

// mutantVariable holds the number of the mutant that a process is to be.
const mutantVariable = "LESSON_TEST_MUTANT"

// mutated are the files that are changed, and the lessons whose tests must notice.
var mutated = []struct{ file, lessons string }{
	{"epoll/eventloop.go", "epoll"},
	{"edgetriggered/eventloop.go", "edgetriggered"},
	{"blocking/once.go", "blocking|loop|threaded"},
	{"blocking/loop.go", "loop"},
	{"threaded/threaded.go", "threaded"},
}

// A mutant is one change.
type mutant struct {
	number  int
	file    string
	in      string // the function
	change  string // in words
	lessons string
}

// String names the mutant in survivors.txt. There is no line number in it.
func (m mutant) String() string { return fmt.Sprintf("%s %s: %s", m.file, m.in, m.change) }

// survivorsFile lists the mutants that no test can notice: a name, and below it, indented,
// why the change makes no difference.
const survivorsFile = "testdata/survivors.txt"

func TestMutants(t *testing.T) {
	proof.OnlyExhaustive(t, "changes the lessons in 400 places, one at a time, for up to two minutes")
	program, mutants := mutatedProgram(t)
	const whole = 5 * time.Minute
	if out, err := runMutant(program, mutant{lessons: ".*"}, whole); err != nil {
		t.Fatalf("without a change: %v\n%s", err, out)
	}
	text, err := os.ReadFile(survivorsFile)
	proof.Must(t, err)
	known := strings.Split(string(text), "\n")

	var mu sync.Mutex
	var survivors []string
	var all sync.WaitGroup
	slots := make(chan struct{}, 2)
	for _, m := range mutants {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if survives(program, m, slices.Contains(known, m.String())) {
				mu.Lock()
				defer mu.Unlock()
				survivors = append(survivors, m.String())
			}
		})
	}
	all.Wait()

	for _, name := range survivors {
		if !slices.Contains(known, name) {
			t.Errorf("no test notices this change, and %s gives no reason:\n%s", survivorsFile, name)
		}
	}
	for _, line := range known {
		named := line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, " ")
		if named && !slices.Contains(survivors, line) {
			t.Errorf("%s is out of date: a test notices this change, or it is not made any more:\n%s",
				survivorsFile, line)
		}
	}
	const want = 0.95
	killed := 1 - float64(len(survivors))/float64(len(mutants))
	t.Logf("%d mutants, %.1f %% killed", len(mutants), 100*killed)
	if killed < want {
		t.Errorf("%.1f %% are killed, want at least %.0f %%", 100*killed, 100*want)
	}
}

// survives reports whether no test notices a mutant. Where that is not as expected, it is tried
// again: on a busy machine, a run may be ended early.
func survives(program string, m mutant, expected bool) (survives bool) {
	const soon, tries = 4 * time.Second, 3
	within := soon // or much of the time would go to those that spin
	if expected {
		within = time.Minute
	}
	for range tries {
		_, err := runMutant(program, m, within)
		if survives = err == nil; survives == expected {
			break
		}
	}
	return survives
}

// runMutant runs the tests that must notice a mutant. One that spins is ended.
func runMutant(program string, m mutant, within time.Duration) ([]byte, error) {
	cmd := exec.Command(program, "-test.failfast", "-test.timeout="+within.String(),
		"-test.run=^TestBehaviourSimulated$/^("+m.lessons+")$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", mutantVariable, m.number), "GOMAXPROCS=2")
	return cmd.CombinedOutput()
}

// mutatedProgram builds this test program with all mutants in it.
func mutatedProgram(t *testing.T) (program string, mutants []mutant) {
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	replace := func(file, text string) {
		name := filepath.Join(dir, strings.ReplaceAll(file, "/", "-"))
		proof.Must(t, os.WriteFile(name, []byte(text), 0o600))
		absolute, err := filepath.Abs(filepath.Join("../..", file))
		proof.Must(t, err)
		overlay.Replace[absolute] = name
	}
	for _, f := range mutated {
		m := &mutator{t: t, file: f.file, lessons: f.lessons, first: len(mutants)}
		replace(f.file, m.rewrite())
		mutants = append(mutants, m.mutants...)
		folder := filepath.Dir(f.file)
		replace(folder+"/mutant_chosen.go", fmt.Sprintf(chosen, folder, mutantVariable))
	}
	text, err := json.Marshal(overlay)
	proof.Must(t, err)
	file := filepath.Join(dir, "overlay.json")
	proof.Must(t, os.WriteFile(file, text, 0o600))
	program = filepath.Join(dir, "mutants")
	out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", file, "-o", program, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	return program, mutants
}

// chosen is a file of each package that is changed.
const chosen = `package %s

import "os"

var mutantChosen = os.Getenv(%q)

func mutant(number string) bool { return mutantChosen == number }
`

// A mutator makes the changes of one file. Each is guarded by its number.
type mutator struct {
	t       *testing.T
	file    string
	lessons string
	first   int // mutants of other files

	in      string
	mutants []mutant
}

// rewrite returns the file with all changes in it.
func (m *mutator) rewrite() string {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, filepath.Join("../..", m.file), nil, parser.SkipObjectResolution)
	proof.Must(m.t, err)
	for _, d := range tree.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			m.in = f.Name.Name
			m.block(f.Body)
		}
	}
	var text bytes.Buffer
	proof.Must(m.t, format.Node(&text, fset, tree))
	return text.String()
}

// add numbers a change, and returns the condition under which it is made.
func (m *mutator) add(what string, node ast.Node) string {
	number := m.first + len(m.mutants) + 1
	m.mutants = append(m.mutants, mutant{number, m.file, m.in, what + " " + source(node), m.lessons})
	return fmt.Sprintf("mutant(%q)", fmt.Sprint(number))
}

// source writes a node in one line.
func source(node ast.Node) string {
	var text bytes.Buffer
	if err := format.Node(&text, token.NewFileSet(), node); err != nil {
		panic(err) // it was parsed
	}
	return strings.Join(strings.Fields(text.String()), " ")
}

func parse(m *mutator, text string) ast.Expr {
	e, err := parser.ParseExpr(text)
	proof.Must(m.t, err)
	return e
}

// block changes the statements of a block: each that can be left out may be.
func (m *mutator) block(b *ast.BlockStmt) { b.List = m.statements(b.List) }

func (m *mutator) statements(list []ast.Stmt) []ast.Stmt {
	var changed []ast.Stmt
	for _, s := range list {
		droppable := false
		switch s := s.(type) {
		case *ast.ExprStmt, *ast.IncDecStmt, *ast.DeferStmt, *ast.GoStmt:
			droppable = true
		case *ast.AssignStmt:
			droppable = s.Tok != token.DEFINE
		}
		if droppable {
			guard := parse(m, "!"+m.add("drop", s))
			changed = append(changed, &ast.IfStmt{Cond: guard, Body: &ast.BlockStmt{List: []ast.Stmt{s}}})
			continue
		}
		m.statement(s)
		changed = append(changed, s)
	}
	return changed
}

// statement changes the conditions of a statement, and what is inside it.
func (m *mutator) statement(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.IfStmt:
		s.Cond = m.condition(s.Cond)
		m.block(s.Body)
		if s.Else != nil {
			m.statement(s.Else)
		}
	case *ast.BlockStmt:
		m.block(s)
	case *ast.ForStmt:
		if s.Cond != nil {
			s.Cond = m.condition(s.Cond)
		}
		m.block(s.Body)
	case *ast.RangeStmt:
		if n, ok := s.X.(*ast.Ident); ok && strings.HasSuffix(n.Name, "PerTurn") {
			more, fewer := m.add("one more than", n), m.add("one less than", n)
			s.X = parse(m, fmt.Sprintf(
				"func() int { if %s { return %s+1 }; if %s { return %s-1 }; return %[2]s }()", more, n.Name, fewer, n.Name))
		}
		m.block(s.Body)
	case *ast.SwitchStmt:
		for _, c := range s.Body.List {
			clause := c.(*ast.CaseClause)
			if s.Tag == nil {
				for i, e := range clause.List {
					clause.List[i] = m.condition(e)
				}
			}
			clause.Body = m.statements(clause.Body)
		}
	}
}

// others are the operators that one may be mistaken for.
var others = map[token.Token]token.Token{
	token.LAND: token.LOR, token.LOR: token.LAND, token.LSS: token.LEQ, token.LEQ: token.LSS,
	token.GTR: token.GEQ, token.GEQ: token.GTR, token.EQL: token.NEQ, token.NEQ: token.EQL,
}

// condition negates a condition, and changes the operators in it, one at a time.
func (m *mutator) condition(e ast.Expr) ast.Expr {
	original := source(e)
	cases := fmt.Sprintf("if %s { return !(%s) }\n", m.add("negate", e), original)
	ast.Inspect(e, func(n ast.Node) bool {
		b, ok := n.(*ast.BinaryExpr)
		if !ok || others[b.Op] == 0 {
			return true
		}
		equality := b.Op == token.EQL || b.Op == token.NEQ
		if n == ast.Node(e) && equality {
			return true // that is to negate it
		}
		was := b.Op
		b.Op = others[was]
		changed := source(e)
		b.Op = was
		guard := m.add("in "+original+" write "+others[was].String()+" in", b)
		cases += fmt.Sprintf("if %s { return %s }\n", guard, changed)
		return true
	})
	return parse(m, "func() bool {\n"+cases+"return "+original+"\n}()")
}
