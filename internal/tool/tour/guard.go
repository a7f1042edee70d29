//go:build linux

package tour

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// pagePolicy allows a page to load and to do only what its own site serves.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; " +
	"img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'"

// policy also forbids other sites to frame the page, which a page cannot do by itself.
const policy = pagePolicy + "; frame-ancestors 'none'"

// A guard lets only the tour's own pages in.
type guard struct {
	port  string
	names []string // hosts by which the tour may be asked for
	// anyIP lets it be asked for by any address: it listens on all. A name is never
	// good enough then, for it may be made to lead here.
	anyIP bool
}

func newGuard(host string, addr net.Addr) guard {
	g := guard{names: []string{"localhost", "127.0.0.1", "::1"}}
	if tcp, ok := addr.(*net.TCPAddr); ok {
		_, g.port, _ = net.SplitHostPort(tcp.String()) // a TCPAddr has a port
		g.anyIP = tcp.IP.IsUnspecified()
		g.names = append(g.names, tcp.IP.String())
	}
	if name, _, err := net.SplitHostPort(host); err == nil && name != "" {
		g.names = append(g.names, strings.ToLower(name))
	}
	return g
}

func (g guard) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if err := g.check(r); err != nil {
			refuse(w, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (g guard) check(r *http.Request) error {
	if !g.known(r.Host) {
		return forbidden("no host %q here", r.Host).hint("open the address that lesson tour prints")
	}
	if origin := r.Header.Get("Origin"); origin != "" && origin != "http://"+r.Host {
		return forbidden("a page of %q may not ask here", origin)
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" && r.URL.Path != "/" {
		return forbidden("another site may not ask here")
	}
	if strings.HasPrefix(r.URL.Path, "/api/") && r.Header.Get(ourHeader) != "1" {
		return forbidden("the header %s is missing", ourHeader).hint(ourHeader + ": 1")
	}
	return nil
}

// known says whether the tour may be asked for by this name and port.
func (g guard) known(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil { // port 80 is left out
		name, port = strings.Trim(host, "[]"), "80"
	}
	if port != g.port {
		return false
	}
	for _, n := range g.names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	_, err = netip.ParseAddr(name)
	return g.anyIP && err == nil
}
