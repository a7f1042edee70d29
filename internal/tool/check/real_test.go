//go:build linux

package check

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lesson/internal/proof"
)

// realConfigs are the files with which the real servers are run, by server and name. They
// are written to DIR, which is a folder of its own.
var realConfigs = map[string]map[string]string{
	"nginx": {"nginx.conf": `
daemon off;
user root;
pid DIR/pid;
error_log /dev/null;
worker_processes 2;
events { worker_connections 4096; }
http {
	access_log off;
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	client_header_timeout SECONDSs;
	server {
		listen 127.0.0.1:PORT;
		location / { default_type text/plain; return 200 "Hello, world!"; }
	}
}
`},
	"lighttpd": {"index.txt": "Hello, world!", "lighttpd.conf": `
server.document-root = "DIR"
server.bind = "127.0.0.1"
server.port = PORT
index-file.names = ("index.txt")
mimetype.assign = (".txt" => "text/plain")
server.max-read-idle = SECONDS
`},
	"haproxy": {"haproxy.cfg": `
defaults
	mode http
	timeout client 60s
	timeout http-request SECONDSs
frontend hello
	bind 127.0.0.1:PORT
	http-request return status 200 content-type text/plain string "Hello, world!"
`},
	"http.server": {"www/index.html": "Hello, world!"},
	"gunicorn": {"app.py": `
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, world!"]
`},
	"Node": {"server.js": `
const http = require("http");
const [port, seconds] = process.argv.slice(2).map(Number);
const options = { headersTimeout: seconds * 1000, connectionsCheckingInterval: 100 };
const server = http.createServer(options, (request, response) => {
  request.resume();
  response.setHeader("Content-Type", "text/plain");
  response.end("Hello, world!");
});
server.listen(port, "127.0.0.1");
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => server.close());
`},
}

// realCommands start the real servers, without installing anything.
var realCommands = map[string][]string{
	"nginx":       {"nginx", "-c", "DIR/nginx.conf"},
	"lighttpd":    {"lighttpd", "-D", "-f", "DIR/lighttpd.conf"},
	"haproxy":     {"haproxy", "-db", "-f", "DIR/haproxy.cfg"},
	"http.server": {"/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", "DIR/www", "PORT"},
	"gunicorn":    {"gunicorn", "--log-level", "critical", "--chdir", "DIR", "--bind", "127.0.0.1:PORT", "app:app"},
	"Node":        {"node", "DIR/server.js", "PORT", "SECONDS"},
}

// realCommand writes the files of a real server and returns the command that starts it.
// {port} and {seconds} reach the files as well.
func realCommand(t *testing.T, name string) []string {
	t.Helper()
	if name == "net/http" {
		return command(serveFramework, ignoresBodies)
	}
	of := realCommands[name]
	available(t, of[0])
	dir := t.TempDir()
	script := `dir=$(mktemp -d "$1/XXXXXX"); cp -r "$1/files/." "$dir"
sed -i "s|DIR|$dir|g; s|PORT|$2|g; s|SECONDS|$3|g" $(find "$dir" -type f)
exec ` + strings.NewReplacer("DIR", "$dir", "PORT", "$2", "SECONDS", "$3").Replace(strings.Join(of, " "))
	for file, text := range realConfigs[name] {
		path := filepath.Join(dir, "files", file)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(strings.TrimPrefix(text, "\n")), 0o644))
	}
	return []string{"sh", "-c", script, "sh", dir, "{port}", "{seconds}"}
}

// What widely used servers do in every case is written down, and why that is fair.
func TestRealServers(t *testing.T) {
	proof.OnlyExhaustive(t, "seven servers that others wrote, against every case; 2 minutes")
	if proof.Detector {
		t.Skip("judges other programs, which the race detector does not see")
	}
	const atATime = 2
	places := make(chan struct{}, atATime)
	for _, s := range RealServers {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			places <- struct{}{}
			defer func() { <-places }()
			report, err := Run(t.Context(), Target{Command: realCommand(t, s.Name)}, Options{
				Patience: 2 * time.Second, Timeout: 2 * time.Second, Jobs: 4,
			})
			must(t, err)
			t.Logf("%s: %.1f s", s.Name, report.Took.Seconds())
			for _, r := range report.Results {
				excuse, excused := s.find(r.Address)
				switch {
				case r.Verdict == Fails && !excused:
					t.Errorf("%s: got %s, because %s: no excuse is written down", r.Address, r.Got, r.Cause)
				case r.Verdict != Fails && excused && !excuse.Sometimes:
					t.Errorf("%s: %s %s; the excuse is %q", r.Address, r.Verdict, r.Reason, excuse.Why)
				}
			}
		})
	}
}

// An excuse is for cases that exist, one for each, and has a reason.
func TestExcusesAreForCases(t *testing.T) {
	for _, s := range RealServers {
		var seen []string
		for _, e := range s.Excuse {
			if len(e.Cases) == 0 || e.Why == "" {
				t.Errorf("%s: %q is excused by %q", s.Name, e.Cases, e.Why)
			}
			for _, address := range e.Cases {
				if _, err := Select([]string{address}); err != nil || slices.Contains(seen, address) {
					t.Errorf("%s: %s twice, or %v", s.Name, address, err)
				}
				seen = append(seen, address)
			}
		}
	}
	if table := RealServersTable(); strings.Count(table, "\n") < len(RealServers) {
		t.Errorf("the table is %s", fmt.Sprintf("%q", table))
	}
}
