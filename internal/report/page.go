package report

import (
	"fmt"
	"html/template"
	"io"
)

// A Page is one HTML file that needs no other.
type Page struct {
	Title, Lead string
	Sections    []Section
	Foot        []string // lines: the machine, the versions, the command
}

// A Section is a part of a page. Everything in it but the charts is optional.
type Section struct {
	Title  string
	Text   []string // paragraphs
	Table  *Table
	Charts []Chart
}

// Write writes the page. The error is that of w.
func (p *Page) Write(w io.Writer) error {
	type figure struct {
		Title, Caption, Note string
		SVG                  template.HTML
		Data                 *Table
	}
	type section struct {
		Section
		Figures []figure
	}
	var sections []section
	for i, s := range p.Sections {
		whole := section{Section: s}
		for j, c := range s.Charts {
			f := figure{Note: omission(c.omitted()), Data: c.Table()}
			f.Title, f.Caption = c.titles()
			f.SVG = template.HTML(c.draw(fmt.Sprintf("chart-%d-%d", i+1, j+1)))
			whole.Figures = append(whole.Figures, f)
		}
		sections = append(sections, whole)
	}
	return pageTemplate.Execute(w, struct {
		*Page
		Style template.CSS
		All   []section
	}{p, template.CSS(pageStyle), sections})
}

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"printable": Printable, "prose": prose,
	"numeric": func(t *Table, column int) bool { return !t.words(column) },
}).Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{prose .Title}}</title>
<style>
{{.Style}}</style>
</head>
<body>
<main>
<h1>{{prose .Title}}</h1>
{{with .Lead}}<p class="lead">{{prose .}}</p>
{{end}}{{range .All}}<section>
{{with .Title}}<h2>{{prose .}}</h2>
{{end}}{{range .Text}}<p>{{prose .}}</p>
{{end}}{{with .Table}}{{template "table" .}}{{end}}{{range .Figures}}<figure>
<div class="scroll" tabindex="0" role="group" aria-label="{{prose .Title}}">
{{.SVG}}</div>
<figcaption>{{if .Caption}}{{prose .Caption}}{{else}}{{prose .Title}}{{end}}</figcaption>
<details>
<summary>The numbers</summary>
{{with .Note}}<p>{{.}}</p>
{{end}}{{template "table" .Data}}</details>
</figure>
{{end}}</section>
{{end}}</main>
{{with .Foot}}<footer>
{{range .}}<p>{{prose .}}</p>
{{end}}</footer>
{{end}}</body>
</html>
{{define "table"}}{{$t := .}}<div class="scroll" tabindex="0" role="group" aria-label="Table">
<table>
<thead><tr>{{range $c, $cell := .Head -}}
<th scope="col"{{if numeric $t $c}} class="n"{{end}}>{{printable $cell}}</th>{{end}}</tr></thead>
<tbody>
{{range .Rows}}<tr>{{range $c, $cell := . -}}
<td{{if numeric $t $c}} class="n"{{end}}>{{printable $cell}}</td>{{end}}</tr>
{{end}}</tbody>
</table></div>
{{end}}`))

// pageRules returns the rules that name colours on a page.
func (p palette) pageRules() string {
	return fmt.Sprintf("body{background:%s;color:%s}\n"+
		".lead,figcaption,summary,footer{color:%s}\n"+
		"th,td,footer{border-color:%s}\n", p.paper, p.ink, p.quiet, p.grid)
}

var pageStyle = `*{box-sizing:border-box}
body{margin:0;font:16px/1.55 ` + fonts + `}
main,footer{max-width:54rem;margin:0 auto;padding:1rem 1.25rem}
main{padding-top:2rem}
h1{font-size:1.8rem;line-height:1.2;margin:0 0 .5rem}
h2{font-size:1.25rem;line-height:1.3;margin:0 0 .5rem}
h1,h2,p,figcaption{overflow-wrap:anywhere}
p{margin:0 0 .75rem;max-width:42rem}
.lead{font-size:1.1rem}
section{margin:2.5rem 0}
figure{margin:1.5rem -16px 2rem} /* the margin that a picture has */
figcaption,details{padding:0 16px}
figcaption{font-size:.9rem;max-width:42rem;margin:.25rem 0 .5rem}
.scroll{overflow-x:auto}
.chart{display:block;width:100%;min-width:640px;height:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .9rem .3rem 0;text-align:left;vertical-align:top;border-bottom:1px solid}
th{white-space:nowrap}
.n{text-align:right}
th:last-child,td:last-child{padding-right:0}
summary{cursor:pointer;font-size:.9rem;margin:.25rem 0}
details[open] summary{margin-bottom:.5rem}
footer{font-size:.85rem;border-top:1px solid}
footer p{margin:0 0 .25rem}
@media print{
body{font-size:11pt}
main,footer{max-width:none;padding:0}
.scroll{overflow:visible}
.chart{min-width:0;max-height:85vh}
figure,tr{break-inside:avoid}
h2{break-after:avoid}
details:not([open]){display:none}
}
` + light.pageRules() + onScreen(dark.pageRules())
