//go:build linux

package unix_test

import (
	"os"
	"regexp"
	"testing"

	linux "golang.org/x/sys/unix"

	"lesson/internal/proof"
	ours "lesson/internal/site/unix"
)

var constants = []struct {
	name  string
	equal bool
}{
	{"AF_INET", ours.AF_INET == linux.AF_INET},
	{"AF_INET6", ours.AF_INET6 == linux.AF_INET6},
	{"EFD_NONBLOCK", ours.EFD_NONBLOCK == linux.EFD_NONBLOCK},
	{"EFD_SEMAPHORE", ours.EFD_SEMAPHORE == linux.EFD_SEMAPHORE},
	{"EPOLL_CLOEXEC", ours.EPOLL_CLOEXEC == linux.EPOLL_CLOEXEC},
	{"EPOLL_CTL_ADD", ours.EPOLL_CTL_ADD == linux.EPOLL_CTL_ADD},
	{"EPOLL_CTL_DEL", ours.EPOLL_CTL_DEL == linux.EPOLL_CTL_DEL},
	{"EPOLL_CTL_MOD", ours.EPOLL_CTL_MOD == linux.EPOLL_CTL_MOD},
	{"IPPROTO_IPV6", ours.IPPROTO_IPV6 == linux.IPPROTO_IPV6},
	{"IPPROTO_TCP", ours.IPPROTO_TCP == linux.IPPROTO_TCP},
	{"IPV6_V6ONLY", ours.IPV6_V6ONLY == linux.IPV6_V6ONLY},
	{"MSG_MORE", ours.MSG_MORE == linux.MSG_MORE},
	{"MSG_NOSIGNAL", ours.MSG_NOSIGNAL == linux.MSG_NOSIGNAL},
	{"SHUT_RD", ours.SHUT_RD == linux.SHUT_RD},
	{"SHUT_WR", ours.SHUT_WR == linux.SHUT_WR},
	{"SOCK_CLOEXEC", ours.SOCK_CLOEXEC == linux.SOCK_CLOEXEC},
	{"SOCK_NONBLOCK", ours.SOCK_NONBLOCK == linux.SOCK_NONBLOCK},
	{"SOCK_STREAM", ours.SOCK_STREAM == linux.SOCK_STREAM},
	{"SOL_SOCKET", ours.SOL_SOCKET == linux.SOL_SOCKET},
	{"SO_BROADCAST", ours.SO_BROADCAST == linux.SO_BROADCAST},
	{"SO_KEEPALIVE", ours.SO_KEEPALIVE == linux.SO_KEEPALIVE},
	{"SO_RCVLOWAT", ours.SO_RCVLOWAT == linux.SO_RCVLOWAT},
	{"SO_RCVTIMEO", ours.SO_RCVTIMEO == linux.SO_RCVTIMEO},
	{"SO_REUSEADDR", ours.SO_REUSEADDR == linux.SO_REUSEADDR},
	{"SO_REUSEPORT", ours.SO_REUSEPORT == linux.SO_REUSEPORT},
	{"SO_SNDTIMEO", ours.SO_SNDTIMEO == linux.SO_SNDTIMEO},
	{"TCP_CORK", ours.TCP_CORK == linux.TCP_CORK},
	{"TCP_DEFER_ACCEPT", ours.TCP_DEFER_ACCEPT == linux.TCP_DEFER_ACCEPT},
	{"TCP_KEEPCNT", ours.TCP_KEEPCNT == linux.TCP_KEEPCNT},
	{"TCP_KEEPIDLE", ours.TCP_KEEPIDLE == linux.TCP_KEEPIDLE},
	{"TCP_KEEPINTVL", ours.TCP_KEEPINTVL == linux.TCP_KEEPINTVL},
	{"TCP_NODELAY", ours.TCP_NODELAY == linux.TCP_NODELAY},
	{"EPOLLERR", ours.EPOLLERR == linux.EPOLLERR},
	{"EPOLLET", ours.EPOLLET == linux.EPOLLET},
	{"EPOLLEXCLUSIVE", ours.EPOLLEXCLUSIVE == linux.EPOLLEXCLUSIVE},
	{"EPOLLHUP", ours.EPOLLHUP == linux.EPOLLHUP},
	{"EPOLLIN", ours.EPOLLIN == linux.EPOLLIN},
	{"EPOLLONESHOT", ours.EPOLLONESHOT == linux.EPOLLONESHOT},
	{"EPOLLOUT", ours.EPOLLOUT == linux.EPOLLOUT},
	{"EPOLLPRI", ours.EPOLLPRI == linux.EPOLLPRI},
	{"EPOLLRDHUP", ours.EPOLLRDHUP == linux.EPOLLRDHUP},
	{"EPOLLWAKEUP", ours.EPOLLWAKEUP == linux.EPOLLWAKEUP},
	{"EADDRINUSE", int(ours.EADDRINUSE) == int(linux.EADDRINUSE) && ours.ErrnoName(ours.EADDRINUSE) == "EADDRINUSE"},
	{"EAGAIN", int(ours.EAGAIN) == int(linux.EAGAIN) && ours.ErrnoName(ours.EAGAIN) == "EAGAIN"},
	{"EBADF", int(ours.EBADF) == int(linux.EBADF) && ours.ErrnoName(ours.EBADF) == "EBADF"},
	{"ECONNABORTED", int(ours.ECONNABORTED) == int(linux.ECONNABORTED) && ours.ErrnoName(ours.ECONNABORTED) == "ECONNABORTED"},
	{"ECONNRESET", int(ours.ECONNRESET) == int(linux.ECONNRESET) && ours.ErrnoName(ours.ECONNRESET) == "ECONNRESET"},
	{"EEXIST", int(ours.EEXIST) == int(linux.EEXIST) && ours.ErrnoName(ours.EEXIST) == "EEXIST"},
	{"EHOSTDOWN", int(ours.EHOSTDOWN) == int(linux.EHOSTDOWN) && ours.ErrnoName(ours.EHOSTDOWN) == "EHOSTDOWN"},
	{"EHOSTUNREACH", int(ours.EHOSTUNREACH) == int(linux.EHOSTUNREACH) && ours.ErrnoName(ours.EHOSTUNREACH) == "EHOSTUNREACH"},
	{"EINTR", int(ours.EINTR) == int(linux.EINTR) && ours.ErrnoName(ours.EINTR) == "EINTR"},
	{"EINVAL", int(ours.EINVAL) == int(linux.EINVAL) && ours.ErrnoName(ours.EINVAL) == "EINVAL"},
	{"EMFILE", int(ours.EMFILE) == int(linux.EMFILE) && ours.ErrnoName(ours.EMFILE) == "EMFILE"},
	{"ENETDOWN", int(ours.ENETDOWN) == int(linux.ENETDOWN) && ours.ErrnoName(ours.ENETDOWN) == "ENETDOWN"},
	{"ENETUNREACH", int(ours.ENETUNREACH) == int(linux.ENETUNREACH) && ours.ErrnoName(ours.ENETUNREACH) == "ENETUNREACH"},
	{"ENFILE", int(ours.ENFILE) == int(linux.ENFILE) && ours.ErrnoName(ours.ENFILE) == "ENFILE"},
	{"ENOBUFS", int(ours.ENOBUFS) == int(linux.ENOBUFS) && ours.ErrnoName(ours.ENOBUFS) == "ENOBUFS"},
	{"ENOENT", int(ours.ENOENT) == int(linux.ENOENT) && ours.ErrnoName(ours.ENOENT) == "ENOENT"},
	{"ENOMEM", int(ours.ENOMEM) == int(linux.ENOMEM) && ours.ErrnoName(ours.ENOMEM) == "ENOMEM"},
	{"ENONET", int(ours.ENONET) == int(linux.ENONET) && ours.ErrnoName(ours.ENONET) == "ENONET"},
	{"ENOPROTOOPT", int(ours.ENOPROTOOPT) == int(linux.ENOPROTOOPT) && ours.ErrnoName(ours.ENOPROTOOPT) == "ENOPROTOOPT"},
	{"ENOTCONN", int(ours.ENOTCONN) == int(linux.ENOTCONN) && ours.ErrnoName(ours.ENOTCONN) == "ENOTCONN"},
	{"ENOTSOCK", int(ours.ENOTSOCK) == int(linux.ENOTSOCK) && ours.ErrnoName(ours.ENOTSOCK) == "ENOTSOCK"},
	{"EOPNOTSUPP", int(ours.EOPNOTSUPP) == int(linux.EOPNOTSUPP) && ours.ErrnoName(ours.EOPNOTSUPP) == "EOPNOTSUPP"},
	{"EPERM", int(ours.EPERM) == int(linux.EPERM) && ours.ErrnoName(ours.EPERM) == "EPERM"},
	{"EPIPE", int(ours.EPIPE) == int(linux.EPIPE) && ours.ErrnoName(ours.EPIPE) == "EPIPE"},
	{"EPROTO", int(ours.EPROTO) == int(linux.EPROTO) && ours.ErrnoName(ours.EPROTO) == "EPROTO"},
}

// Every constant has the value that it has on Linux, and is in the table above.
func TestConstants(t *testing.T) {
	compared := make(map[string]bool)
	for _, c := range constants {
		compared[c.name] = true
		if !c.equal {
			t.Errorf("%s differs from the one of Linux", c.name)
		}
	}
	text, err := os.ReadFile("unix.go")
	proof.Must(t, err)
	for _, found := range regexp.MustCompile(`(?m)^\t([A-Z][A-Z0-9_]+) +=`).FindAllStringSubmatch(string(text), -1) {
		if name := found[1]; !compared[name] && name != "SIGINT" && name != "SIGTERM" {
			t.Errorf("%s is not compared", name)
		}
	}
}
