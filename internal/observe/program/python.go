//go:build linux

package program

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"

	"lesson/internal/observe/ptrace"
)

// A python finds lines of a program that CPython runs. Its frames are not on the thread's
// stack: CPython keeps them as data. So they are read from the memory of the stopped process,
// beginning at _PyRuntime:
//
//	_PyRuntime → interpreter → threads → frames, the innermost first → code object
//
// No pointer is believed. An object must have the type that is expected there, a thread must be
// the one that has stopped, an instruction must be one of its code. Otherwise there is no line.
type python struct {
	layout
	read    func(address uint64, p []byte) error // from the memory of the process
	symbols map[string]uint64                    // by name: where the process has them
	state   uint64                               // of the thread, where it was found last
	codes   map[uint64]code                      // by address: those that were read already
}

// A code is what is known of a code object.
type code struct {
	head  structure // without the count of references, which changes
	file  string    // "" if it is not of the program's own source
	table []byte    // which instruction is of which line
}

// A field is a value that is read, by where it is.
type field int

const (
	interpreters    field = iota // of the runtime: the first of its interpreters
	nextInterpreter              // of an interpreter
	threads                      // of an interpreter: the first of its threads
	nextThread                   // of a thread
	frameOf                      // of a thread: its innermost frame
	nativeID                     // of a thread: as gettid(2) returns it
	caller                       // of a frame: the frame that called it
	codeOf                       // of a frame
	instruction                  // of a frame: the address of the one that it executes
	fileOf                       // of a code object
	tableOf                      // of a code object: which instruction is of which line
	firstLine                    // of a code object, 32 bits
	instructions                 // of a code object: they begin here
	fields
)

// A layout is how many bytes from the beginning of its structure each field is.
type layout struct {
	at     [fields]uint64
	inside int64  // frameOf is behind one more pointer, so far from it; -1: it is not
	wide   uint64 // where the characters of a string begin, if not all are ASCII
	ascii  uint64 // and where if they are
}

// laidOut has the layouts of versions that do not describe themselves, by PY_VERSION_HEX
// without its lower 16 bits. They are the same on all machines of 64 bits.
var laidOut = map[uint64]layout{
	0x030b: {[fields]uint64{
		interpreters: 40, nextInterpreter: 0, threads: 16, nextThread: 8,
		frameOf: 56, nativeID: 160, caller: 48, codeOf: 32, instruction: 56, fileOf: 112, tableOf: 136,
		firstLine: 72, instructions: 184,
	}, 8, 72, 48},
	0x030c: {[fields]uint64{
		interpreters: 40, nextInterpreter: 0, threads: 72, nextThread: 8,
		frameOf: 56, nativeID: 144, caller: 8, codeOf: 0, instruction: 56, fileOf: 112, tableOf: 136,
		firstLine: 68, instructions: 192,
	}, 0, 56, 40},
}

// described says, for versions whose _PyRuntime begins with a description of the layout, which
// word of it describes which field: Include/internal/pycore_debug_offsets.h of that version.
var described = map[uint64][fields]uint64{
	0x030d: {
		interpreters: 5, nextInterpreter: 8, threads: 9, nextThread: 21,
		frameOf: 23, nativeID: 25, caller: 29, codeOf: 30, instruction: 31, fileOf: 35, tableOf: 38,
		firstLine: 39, instructions: 43,
	},
	0x030e: {
		interpreters: 5, nextInterpreter: 8, threads: 9, nextThread: 24,
		frameOf: 26, nativeID: 28, caller: 32, codeOf: 33, instruction: 34, fileOf: 40, tableOf: 43,
		firstLine: 44, instructions: 48,
	},
}

// Layout of all versions: of each object, of one with a size, of a string and of bytes.
const (
	typeOf     = 8
	sizeOf     = 16
	stringKind = 32 // bits 2 to 4: bytes of a character; then: compact, ASCII
	bytesBegin = 32
)

// Bounds, so that nothing that is read makes a loop endless or a buffer large.
const (
	mostThreads = 20_000 // and interpreters
	mostFrames  = 256
	mostName    = 4096 // PATH_MAX
	mostTable   = 1 << 20
	farthest    = 1 << 20 // field of a structure
)

var errOtherPython = errors.New("not CPython 3.11 to 3.14, or one without the global lock")

// newPython reads which version of CPython it is. read reads the memory of its process.
func newPython(
	symbols map[string]uint64, read func(address uint64, p []byte) error,
) (*python, error) {
	p := &python{read: read, symbols: symbols, codes: map[uint64]code{}}
	version, known := p.symbols["Py_Version"] // 3.11 or later
	if !known {
		return nil, errOtherPython
	}
	hex, err := p.word(version)
	if err != nil {
		return nil, err
	}
	hex >>= 16
	words, describes := described[hex]
	if !describes {
		if p.layout, known = laidOut[hex]; !known {
			return nil, errOtherPython
		}
		return p, nil
	}
	p.layout = layout{inside: -1, wide: 56, ascii: 40}
	description, err := p.structure(p.symbols["_PyRuntime"], 8*(1+slices.Max(words[:])))
	if err != nil {
		return nil, err
	}
	const version0, withoutLock = 8, 16
	if string(description[:8]) != "xdebugpy" || description.word(version0)>>16 != hex ||
		description.word(withoutLock) != 0 {
		return nil, errOtherPython
	}
	for f, word := range words {
		if p.at[f] = description.word(8 * word); p.at[f] > farthest {
			return nil, errOtherPython
		}
	}
	return p, nil
}

// place returns the innermost line of the program's own source that a stopped thread is on.
// Calls of which there is none are not left out: the program may have no source of its own, as
// in python3 -m http.server.
func (p *python) place(s ptrace.Stop) (file string, line int, known bool) {
	frame, err := p.frame(uint64(s.Thread))
	for range mostFrames {
		if err != nil || frame == 0 {
			return "", 0, false
		}
		if file, line, frame, err = p.line(frame); file != "" {
			return file, line, true
		}
	}
	return "", 0, false
}

// frame returns the innermost frame of a thread, 0 if it has none.
func (p *python) frame(tid uint64) (uint64, error) {
	state, err := p.thread(tid)
	if err != nil {
		return 0, err
	}
	frame := state.word(p.at[frameOf])
	if p.inside >= 0 {
		return p.word(frame + uint64(p.inside))
	}
	return frame, nil
}

var (
	errNoThread = errors.New("the thread is not one of Python's")
	errDamaged  = errors.New("this is not what Python keeps there")
)

// thread returns the state that Python has of a thread.
func (p *python) thread(tid uint64) (structure, error) {
	state, err := p.threadAt(p.state, tid)
	// Other threads run meanwhile, and may change the list: then look again.
	for try := 0; err != nil && try < 3; try++ {
		if p.state, err = p.find(tid); errors.Is(err, errNoThread) {
			break
		}
		if err == nil {
			state, err = p.threadAt(p.state, tid)
		}
	}
	return state, err
}

// find returns where the state of a thread is.
func (p *python) find(tid uint64) (uint64, error) {
	interpreter, err := p.word(p.symbols["_PyRuntime"] + p.at[interpreters])
	for left := mostThreads; err == nil && interpreter != 0; {
		at, failed := p.word(interpreter + p.at[threads])
		for ; failed == nil && at != 0; left-- {
			if left <= 0 {
				return 0, errNoThread // the list has no end
			}
			state, err := p.structure(at, p.end(nextThread, nativeID))
			if err != nil || state.word(p.at[nativeID]) == tid {
				return at, err
			}
			at = state.word(p.at[nextThread])
		}
		if left--; failed != nil || left <= 0 {
			return 0, errDamaged
		}
		interpreter, err = p.word(interpreter + p.at[nextInterpreter])
	}
	if err == nil {
		err = errNoThread
	}
	return 0, err
}

// threadAt returns what is at an address if it is the state of a thread that runs Python.
func (p *python) threadAt(at, tid uint64) (structure, error) {
	state, err := p.structure(at, p.end(frameOf, nativeID))
	if err == nil && (state.word(p.at[nativeID]) != tid || state.word(p.at[frameOf]) == 0) {
		err = errNoThread
	}
	return state, err
}

// line returns the line that a frame is on, no file if it is not one of the program's own
// source, and the frame that called it.
func (p *python) line(at uint64) (file string, line int, called uint64, err error) {
	frame, err := p.structure(at, p.end(caller, codeOf, instruction))
	if err != nil {
		return "", 0, 0, err
	}
	called = frame.word(p.at[caller])
	const tags = 3 // since 3.14, the lowest bits of a reference are no part of the address
	address := frame.word(p.at[codeOf]) &^ tags
	if address == p.symbols["_Py_NoneStruct"] {
		return "", 0, called, nil // where C calls Python, since 3.13
	}
	c, err := p.code(address)
	if err != nil || c.file == "" {
		return "", 0, called, err
	}
	first := int32(binary.NativeEndian.Uint32(c.head[p.at[firstLine]:]))
	index := (frame.word(p.at[instruction]) - address - p.at[instructions]) / 2 // two bytes each
	if line = lineIn(c.table, int(first), index); line <= 0 {
		return "", 0, 0, errDamaged // the instruction is not one of this code
	}
	return c.file, line, called, nil
}

// mostCodes bounds how many code objects are remembered.
const mostCodes = 1000

// code reads a code object. Of one that was read before, only the head is read again: another
// object may have taken its place.
func (p *python) code(address uint64) (code, error) {
	head, err := p.object(address, "PyCode_Type", p.end(fileOf, tableOf, firstLine))
	if err != nil {
		return code{}, err
	}
	clear(head[:typeOf])
	if known := p.codes[address]; bytes.Equal(known.head, head) {
		return known, nil
	}
	c := code{head: head}
	if c.file, err = p.text(head.word(p.at[fileOf])); err != nil {
		return code{}, err
	}
	if !isOwn(c.file) {
		c.file = ""
	} else if c.table, err = p.bytes(head.word(p.at[tableOf])); err != nil {
		return code{}, err
	}
	if len(p.codes) >= mostCodes {
		clear(p.codes)
	}
	p.codes[address] = c
	return c, nil
}

// Libraries lie in such folders, and what is compiled from no file has a name like <string>.
var library = regexp.MustCompile(`/(site|dist)-packages/|/lib\w*/python3\.\d+/|/python3\d+\.zip/`)

// isOwn reports whether a source file is the program's own, and not of a library.
func isOwn(file string) bool { return path.IsAbs(file) && !library.MatchString(file) }

// lineIn looks an instruction up in a code object's location table, 0 if it has no line:
// InternalDocs/code_objects.md of CPython. Each entry is for some instructions, and says how far
// their line is from that of the entry before.
func lineIn(table []byte, line int, index uint64) int {
	for r := bytes.NewReader(table); ; {
		head, err := r.ReadByte()
		if err != nil || head&0x80 == 0 {
			return 0
		}
		const oneLine, noColumns, long, noLine = 10, 13, 14, 15
		columns := 0 // bytes of the entry that say where in the line
		switch kind := head >> 3 & 15; kind {
		case noLine:
			if index <= uint64(head&7) {
				return 0
			}
		case long:
			line += signed(varint(r))
			for range 3 { // the last line, and the columns
				varint(r)
			}
		case noColumns:
			line += signed(varint(r))
		case oneLine, oneLine + 1, oneLine + 2:
			line, columns = line+int(kind-oneLine), 2
		default:
			columns = 1
		}
		if index <= uint64(head&7) { // one less than there are
			return line
		}
		index -= uint64(head&7) + 1
		for range columns {
			_, _ = r.ReadByte() // the next one fails too
		}
	}
}

// varint reads a number, of which each byte has six bits, the lowest first.
func varint(r *bytes.Reader) uint32 {
	var n uint32
	for shift := 0; shift < 32; shift += 6 {
		b, err := r.ReadByte()
		if err != nil {
			return 0
		}
		if n |= uint32(b&63) << shift; b&64 == 0 {
			break
		}
	}
	return n
}

// signed returns a number whose lowest bit is its sign.
func signed(n uint32) int {
	if n&1 != 0 {
		return -int(n >> 1)
	}
	return int(n >> 1)
}

// A structure is the beginning of one in the memory of the process.
type structure []byte

func (s structure) word(offset uint64) uint64 { return binary.NativeEndian.Uint64(s[offset:]) }

// end returns how much of a structure is read to have these fields.
func (p *python) end(of ...field) uint64 {
	end := uint64(0)
	for _, f := range of {
		end = max(end, p.at[f]+8)
	}
	return end
}

func (p *python) structure(address, size uint64) (structure, error) {
	if address < 4096 || address%8 != 0 || address > math.MaxInt64 {
		return nil, errDamaged
	}
	s := make(structure, size)
	return s, p.read(address, s)
}

func (p *python) word(address uint64) (uint64, error) {
	s, err := p.structure(address, 8)
	if err != nil {
		return 0, err
	}
	return s.word(0), nil
}

// object reads an object of a type. It is errDamaged if it is of another.
func (p *python) object(address uint64, of string, size uint64) (structure, error) {
	s, err := p.structure(address, max(size, sizeOf+8))
	if err == nil && s.word(typeOf) != p.symbols[of] {
		err = errDamaged
	}
	return s, err
}

// bytes reads an object of type bytes.
func (p *python) bytes(address uint64) ([]byte, error) {
	head, err := p.object(address, "PyBytes_Type", bytesBegin)
	if err == nil && head.word(sizeOf) > mostTable {
		err = errDamaged
	}
	if err != nil {
		return nil, err
	}
	return p.structure(address+bytesBegin, head.word(sizeOf))
}

// text reads an object of type str.
func (p *python) text(address uint64) (string, error) {
	head, err := p.object(address, "PyUnicode_Type", stringKind+8)
	if err == nil && head.word(sizeOf) > mostName {
		err = errDamaged
	}
	if err != nil {
		return "", err
	}
	kind, begin := head[stringKind], p.wide
	width, compact, ascii := kind>>2&7, kind&32 != 0, kind&64 != 0
	if ascii {
		begin = p.ascii
	}
	if !compact || width != 1 && width != 2 && width != 4 {
		return "", errDamaged
	}
	raw, err := p.structure(address+begin, head.word(sizeOf)*uint64(width))
	if err != nil {
		return "", err
	}
	return decode(raw, int(width)), nil
}

// decode returns a string of characters of some bytes each.
func decode(raw []byte, width int) string {
	var text strings.Builder
	for at := 0; at < len(raw); at += width {
		character := rune(raw[at])
		switch width {
		case 2:
			character = rune(binary.NativeEndian.Uint16(raw[at:]))
		case 4:
			character = rune(binary.NativeEndian.Uint32(raw[at:]))
		}
		// A byte of a name that is not UTF-8 is kept as half of a surrogate pair.
		if utf16.IsSurrogate(character) {
			text.WriteByte(byte(character))
			continue
		}
		text.WriteRune(character)
	}
	return text.String()
}

// A pythonFile is a file that has CPython in it: python3 itself, or its library.
type pythonFile struct {
	placement
	symbols map[string]uint64
}

// readPython returns nil for a file without CPython.
func readPython(name string) *pythonFile {
	file, err := elf.Open(name)
	if err != nil {
		return nil
	}
	defer file.Close()
	exported, err := file.DynamicSymbols()
	if err != nil {
		return nil
	}
	f := &pythonFile{placementOf(file), map[string]uint64{}}
	needed := []string{
		"_PyRuntime", "Py_Version", "PyCode_Type", "PyUnicode_Type", "PyBytes_Type", "_Py_NoneStruct",
	}
	for _, s := range exported {
		if slices.Contains(needed, s.Name) && s.Section != elf.SHN_UNDEF {
			f.symbols[s.Name] = s.Value
		}
	}
	if _, is := f.symbols["_PyRuntime"]; !is {
		return nil
	}
	return f
}

// python returns CPython as a thread's process has loaded it: nil if it has not. target is what
// the link /proc/TID/exe leads to.
func (p *programs) python(tid int, target, maps string) (program, error) {
	for _, file := range append([]string{target}, pythonLibraries(maps)...) {
		found, known := p.pythons[file]
		if !known {
			if file == target {
				found = readPython(fmt.Sprintf("/proc/%d/exe", tid))
			} else {
				found = readPython(filepath.Join(fmt.Sprintf("/proc/%d/root", tid), file))
			}
			p.pythons[file] = found
		}
		if found == nil {
			continue
		}
		offset, ok := found.offset(maps, file)
		if !ok {
			continue
		}
		symbols := map[string]uint64{}
		for name, value := range found.symbols {
			symbols[name] = value + offset
		}
		python, err := newPython(symbols, func(address uint64, b []byte) error {
			return ptrace.Peek(tid, address, b)
		})
		if err != nil {
			return nil, err
		}
		return python, nil
	}
	return nil, nil
}

// pythonLibraries returns the mapped files that are libraries of Python by their names.
func pythonLibraries(maps string) []string {
	var files []string
	for line := range strings.Lines(maps) {
		at := strings.IndexByte(line, '/')
		if at < 0 {
			continue
		}
		file := strings.TrimSuffix(line[at:], "\n")
		if strings.HasPrefix(path.Base(file), "libpython") && !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	return files
}
