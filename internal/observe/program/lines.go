//go:build linux

package program

import (
	"debug/buildinfo"
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"lesson/internal/observe/ptrace"
)

// lines finds the source line of an instruction of a program. Of a program that Go has
// built, the functions of its own module are its own; those of the standard library and
// of required modules are not. Of another program, such as one in C, all that has
// debugging information is its own.
type lines struct {
	data   *dwarf.Data
	module string // "" when not known; package main is always its own
	native bool   // Go has not built it
	text   [][2]uint64
	found  map[uint64]position
	placement
}

// A placement says where a file can be loaded.
type placement struct {
	anywhere bool   // as a library, or a program of -buildmode=pie
	first    uint64 // where its first segment would be then, if it were loaded at 0
}

func placementOf(file *elf.File) placement {
	p := placement{anywhere: file.Type == elf.ET_DYN}
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_LOAD && segment.Off == 0 {
			p.first = segment.Vaddr &^ uint64(os.Getpagesize()-1)
		}
	}
	return p
}

// offset returns what is added to each address of the file where a process has loaded it. maps
// is the process's, and target the file in it.
func (p placement) offset(maps, target string) (offset uint64, loaded bool) {
	if !p.anywhere {
		return 0, true
	}
	start, found := firstMapping(maps, target)
	return start - p.first, found
}

// A loaded is a program where a process has loaded it.
type loaded struct {
	*lines
	at uint64 // is added to each address of the program
}

type position struct {
	file string
	line int
}

// readLines reads the debugging information of a program. It returns nil if there is none.
func readLines(name string) *lines {
	module := ""
	info, notGo := buildinfo.ReadFile(name)
	if notGo == nil {
		module = info.Main.Path
	}
	file, err := elf.Open(name)
	if err != nil {
		return nil
	}
	defer file.Close() // DWARF copies the sections
	data, err := file.DWARF()
	if err != nil {
		return nil
	}
	l := &lines{
		data: data, module: module, native: notGo != nil,
		found: map[uint64]position{}, placement: placementOf(file),
	}
	if unit, err := data.Reader().Next(); err != nil || unit == nil {
		return nil // it is stripped
	}
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_LOAD && segment.Flags&elf.PF_X != 0 {
			l.text = append(l.text, [2]uint64{segment.Vaddr, segment.Vaddr + segment.Memsz})
		}
	}
	return l
}

// firstMapping returns where the first mapping of a file begins: proc_pid_maps(5).
func firstMapping(maps, file string) (start uint64, found bool) {
	for line := range strings.Lines(maps) {
		var from, to uint64
		if !strings.HasSuffix(line, " "+file+"\n") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err == nil {
			return from, true
		}
	}
	return 0, false
}

// place returns where in its own source the program makes the call at which a thread has
// stopped, no file if another package makes it, and whether that is known.
func (l *loaded) place(s ptrace.Stop) (file string, line int, known bool) {
	if l.native { // the C library keeps no frame pointers
		for _, word := range s.Top() {
			if !l.instruction(word) {
				continue
			}
			if file, line := l.line(word); file != "" {
				return file, line, true
			}
		}
		return "", 0, false
	}
	for _, pc := range s.Stack() {
		if file, line := l.line(pc); file != "" {
			return file, line, true
		}
	}
	return "", 0, true
}

// line returns the line of the program's own source that returns to this instruction of
// the process, and no file if another package's does.
func (l *loaded) line(pc uint64) (string, int) { return l.lines.at(pc - l.at) }

// instruction reports whether an address of the process is one of the program's code.
func (l *loaded) instruction(address uint64) bool {
	return slices.ContainsFunc(l.text, func(t [2]uint64) bool {
		return t[0] <= address-l.at && address-l.at < t[1]
	})
}

// at returns the line of the program's own source that returns to this instruction,
// and no file if another package's does.
func (l *lines) at(pc uint64) (string, int) {
	p, known := l.found[pc]
	if !known {
		p = l.find(pc - 1) // what is returned to follows the call
		l.found[pc] = p
	}
	return p.file, p.line
}

// find looks the instruction up. Go inlines small functions, so an instruction in one
// of the program's functions may come from a line of another package. Then find returns
// the line that calls the inlined function.
func (l *lines) find(pc uint64) position {
	units := l.data.Reader()
	unit, err := units.SeekPC(pc)
	if err != nil || !l.own(name(unit)) {
		return position{}
	}
	table, err := l.data.LineReader(unit)
	if err != nil || table == nil {
		return position{}
	}
	var at dwarf.LineEntry
	if err := table.SeekPC(pc, &at); err != nil {
		return position{}
	}
	here := position{at.File.Name, at.Line}
	for depth := 0; ; {
		e, err := units.Next()
		if err != nil || e == nil || e.Tag == dwarf.TagCompileUnit {
			return here
		}
		switch {
		case e.Tag == 0: // the end of a list of children
			if depth--; depth <= 0 {
				return here
			}
		case (e.Tag == dwarf.TagSubprogram || e.Tag == dwarf.TagInlinedSubroutine) && l.covers(e, pc):
			if e.Tag == dwarf.TagInlinedSubroutine && !l.own(packageOf(l.origin(e))) {
				return called(e, table.Files())
			}
			if !e.Children {
				return here
			}
			depth++
		case e.Children && !(depth > 0 && e.Tag == dwarf.TagLexDwarfBlock):
			units.SkipChildren()
		case e.Children: // a block between two functions
			depth++
		}
	}
}

// compiledFrom returns the source files of a program's own packages, as the compiler saw
// them, sorted. It returns none for a program without debugging information.
func compiledFrom(program string) []string {
	l := readLines(program)
	if l == nil {
		return nil
	}
	var own []string
	root := "" // where the standard library lies
	units := l.data.Reader()
	for {
		unit, err := units.Next()
		if err != nil || unit == nil {
			break
		}
		units.SkipChildren()
		pkg := name(unit)
		if unit.Tag != dwarf.TagCompileUnit || pkg != "runtime" && !l.own(pkg) {
			continue
		}
		table, err := l.data.LineReader(unit)
		if err != nil || table == nil {
			continue
		}
		dir, _ := unit.Val(dwarf.AttrCompDir).(string)
		for _, file := range table.Files() {
			if l.native && file != nil && !path.IsAbs(file.Name) { // as it was given to the compiler
				file.Name = path.Join(dir, file.Name)
			}
			switch {
			case file == nil || !path.IsAbs(file.Name):
			case pkg == "runtime":
				if before, ok := strings.CutSuffix(file.Name, "/runtime/proc.go"); ok {
					root = before + "/"
				}
			// A file of another module has a function that was inlined.
			case l.native && !isSource(file.Name):
			case !strings.Contains(file.Name, "@") && !slices.Contains(own, file.Name):
				own = append(own, file.Name)
			}
		}
	}
	own = slices.DeleteFunc(own, func(file string) bool {
		return root != "" && strings.HasPrefix(file, root)
	})
	slices.Sort(own)
	return own
}

// isSource reports whether a file that a native program was compiled from is its own, and
// not a header of the system: it can still be read, and is no header.
func isSource(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && !strings.HasPrefix(path.Ext(file), ".h") && path.Ext(file) != ""
}

// covers reports whether the instruction is in the function.
func (l *lines) covers(e *dwarf.Entry, pc uint64) bool {
	ranges, err := l.data.Ranges(e)
	if err != nil {
		return false
	}
	for _, r := range ranges {
		if r[0] <= pc && pc < r[1] {
			return true
		}
	}
	return false
}

// origin returns the name of the function that has been inlined.
func (l *lines) origin(e *dwarf.Entry) string {
	at, ok := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset)
	if !ok {
		return ""
	}
	r := l.data.Reader()
	r.Seek(at)
	function, err := r.Next()
	if err != nil || function == nil {
		return ""
	}
	return name(function)
}

// called returns the line that calls the function that has been inlined.
func called(e *dwarf.Entry, files []*dwarf.LineFile) position {
	file, ok1 := e.Val(dwarf.AttrCallFile).(int64)
	line, ok2 := e.Val(dwarf.AttrCallLine).(int64)
	if !ok1 || !ok2 || file < 0 || file >= int64(len(files)) || files[file] == nil {
		return position{}
	}
	return position{files[file].Name, int(line)}
}

func name(e *dwarf.Entry) string {
	text, _ := e.Val(dwarf.AttrName).(string) // "" when it has none
	return text
}

// packageOf returns "golang.org/x/sys/unix" for "golang.org/x/sys/unix.Read".
func packageOf(function string) string {
	dir, base := path.Split(function)
	pkg, _, _ := strings.Cut(base, ".")
	return dir + pkg
}

// own reports whether a package is the program's own.
func (l *lines) own(pkg string) bool {
	return l.native || pkg == "main" || l.module != "" &&
		(pkg == l.module || strings.HasPrefix(pkg, l.module+"/"))
}
