//go:build linux

package simulated_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"lesson/internal/kernel/simulated"
	"lesson/internal/proof"
)

// Each quotation is in the manual page that it names, word by word, if that page is
// installed in the edition that is quoted.
func TestQuotationsOfTheManual(t *testing.T) {
	proof.OnlyExhaustive(t, "renders ten manual pages")
	form := regexp.MustCompile(`^([a-z0-9_]+)\(([0-9])\): (.+[.:])$`)
	pages := make(map[string]string)
	for _, v := range simulated.Vectors() {
		if v.Manual == "" {
			continue
		}
		parts := form.FindStringSubmatch(v.Manual)
		if parts == nil {
			t.Errorf("%s: %q names no page", v.Rule, v.Manual)
			continue
		}
		name := parts[2] + " " + parts[1]
		text, read := pages[name]
		if !read {
			text = manualPage(parts[2], parts[1])
			pages[name] = text
		}
		if text != "" && !strings.Contains(text, parts[3]) {
			t.Errorf("%s: %s does not have this sentence: %s", v.Rule, name, parts[3])
		}
	}
	for name, text := range pages {
		if text == "" {
			t.Logf("not compared: %s of Linux man-pages 6.03 is not installed", name)
		}
	}
}

// manualPage returns the words of a page, with one space between them; "" if it is not
// there, or of another edition.
func manualPage(section, name string) string {
	cmd := exec.Command("man", "-P", "cat", section, name)
	cmd.Env = append(cmd.Environ(), "MANWIDTH=2000", "LC_ALL=C.UTF-8", "MAN_KEEP_FORMATTING=")
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "Linux man-pages 6.03") {
		return ""
	}
	return strings.Join(strings.Fields(regexp.MustCompile(".\b").ReplaceAllString(string(out), "")), " ")
}
