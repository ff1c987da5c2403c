package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/go-dmg/dmg/internal/nbd"
)

// An exitStatus is that of a command which dmg ran, and which has told what was to tell.
type exitStatus int

// Error implements error.
func (s exitStatus) Error() string { return fmt.Sprintf("the command ended with status %d", int(s)) }

// choosePlace chooses where to listen for one command alone. Remove removes what is made
// for that.
func (c *nbdCmd) choosePlace() (remove func(), err error) {
	if runtime.GOOS == "windows" {
		c.Listen = "0"
		return func() {}, nil
	}
	dir, err := os.MkdirTemp("", "dmg-nbd") // nobody else may enter it
	if err != nil {
		return nil, err
	}
	c.Socket = filepath.Join(dir, "socket")
	return func() { os.RemoveAll(dir) }, nil
}

// ready tells who has started the server that clients can connect.
func (c *nbdCmd) ready(addr net.Addr) error {
	if c.ReadyFD < 0 {
		return nil
	}
	f := os.NewFile(uintptr(c.ReadyFD), fmt.Sprintf("file descriptor %d", c.ReadyFD))
	if f == nil {
		return refusal(fmt.Sprintf("--ready-fd: there is no file descriptor %d", c.ReadyFD))
	}
	_, err := fmt.Fprintln(f, exportURI(addr, c.Partition))
	return errors.Join(err, f.Close())
}

// serveCommand serves while the command runs, and returns its status if that is not 0.
// An interrupt ends both.
func (c *nbdCmd) serveCommand(ctx context.Context, std *stdio, server *nbd.Server, l net.Listener) error {
	serving, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	running, kill := context.WithCancel(ctx)
	defer kill()
	go func() {
		err := server.Serve(serving, l)
		if err != nil {
			kill() // nobody answers the command any more
		}
		served <- err
	}()
	err := c.command(running, std, l.Addr()).Run()
	stop()
	if serveErr := <-served; serveErr != nil {
		return serveErr
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if code := exit.ExitCode(); code >= 0 {
		return exitStatus(code)
	}
	if status, ok := exit.Sys().(interface{ Signal() syscall.Signal }); ok {
		return exitStatus(128 + int(status.Signal()))
	}
	return exitStatus(statusDamaged)
}

// command is the user's, which can be asked to end.
func (c *nbdCmd) command(ctx context.Context, std *stdio, addr net.Addr) *exec.Cmd {
	shell := []string{"sh", "-c"}
	if runtime.GOOS == "windows" {
		shell = []string{"cmd", "/c"}
	}
	cmd := exec.CommandContext(ctx, shell[0], append(shell[1:], c.Exec)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = std.in, std.out, std.err
	port, socket := "", ""
	if tcp, ok := addr.(*net.TCPAddr); ok {
		port = strconv.Itoa(tcp.Port)
	} else {
		socket = addr.String()
	}
	cmd.Env = append(os.Environ(),
		"uri="+exportURI(addr, c.Partition),
		"port="+port,
		"unixsocket="+socket,
		"exportname="+c.Partition)
	if runtime.GOOS != "windows" { // which has no such signal
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	}
	cmd.WaitDelay = 10 * time.Second
	return cmd
}
