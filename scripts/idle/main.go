//go:build linux

// Command idle opens N connections to ADDR, says so, and holds them, silent,
// until its standard input ends. It spreads them over source addresses of
// 127.0.0.0/8, so that ephemeral ports (28,232 for each pair of addresses) do not
// run out.
//
//	idle ADDR N
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
)

// perAddress is how many connections leave from one source address.
const perAddress = 10_000

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "idle:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: idle ADDR N")
	}
	n, err := strconv.Atoi(args[1])
	if err != nil || n < 1 || n > 1_000_000 {
		return fmt.Errorf("not a number from 1 to 1,000,000: %q", args[1])
	}
	held := make([]*net.TCPConn, 0, n) // out of reach, the garbage collector would close them
	for i := range n {
		from := &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i/perAddress))}
		dialer := net.Dialer{LocalAddr: from, KeepAlive: -1}
		conn, err := dialer.Dial("tcp", args[0])
		if err != nil {
			return fmt.Errorf("connection %d: %w", i+1, err)
		}
		held = append(held, conn.(*net.TCPConn))
	}
	fmt.Println(len(held))
	_, err = io.Copy(io.Discard, os.Stdin)
	for _, conn := range held {
		// A reset, so that no port is left in TIME_WAIT for the next crowd.
		err = errors.Join(err, conn.SetLinger(0), conn.Close())
	}
	return err
}
