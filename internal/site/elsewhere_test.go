package site

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"lesson/internal/proof"
)

// Where there is no Linux, a command says what to run instead.
func TestElsewhere(t *testing.T) {
	for _, test := range []struct {
		args string
		want []string
	}{
		{"", []string{"lesson needs Linux", "go run ./cmd/lesson tour\n", "golang go run ./cmd/lesson list"}},
		{"epoll --trace", []string{"lesson epoll --trace needs Linux", "go run ./cmd/lesson tour\n",
			"golang go run ./cmd/lesson epoll --trace"}},
		{"tour --only epoll", []string{"-only", "--addr host:port, --export folder and --open"}},
		{"tour epoll", []string{"--addr host:port, --export folder and --open"}},
	} {
		err := Elsewhere(t.Context(), strings.Fields(test.args), io.Discard)
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("lesson %s: %v, want %q", test.args, err, want)
			}
		}
	}
}

// The page is served until the command is interrupted.
func TestServe(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	proof.Must(t, err)
	ctx, interrupt := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, listener, []byte("<!doctype html>the page")) }()
	response, err := http.Get("http://" + listener.Addr().String() + "/")
	proof.Must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	proof.Must(t, err)
	if string(body) != "<!doctype html>the page" || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/html") {
		t.Errorf("%q, %v", body, response.Header)
	}
	interrupt()
	if err := <-served; err != nil {
		t.Errorf("it ends with %v", err)
	}
}
