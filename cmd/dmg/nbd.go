package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/nbd"
)

// nbdPort is the port that IANA assigned to the protocol.
const nbdPort = "10809"

// nbdBlock is the length in bytes of reads that serve an image best: about the
// distance of checkpoints at their finest.
const nbdBlock = 64 << 10

// nbdCmd is dmg nbd.
type nbdCmd struct {
	imageArg  `embed:""`
	Partition string `short:"p" placeholder:"NAME" help:"Serve this partition only: a number, name or type from dmg info, or a part of a name."`
	Socket    string `placeholder:"PATH" xor:"where" help:"Listen on a Unix socket, which must not exist."`
	Listen    string `placeholder:"ADDR" xor:"where" help:"Listen on a TCP address, HOST:PORT or PORT; 127.0.0.1:10809 if neither is given. Port 0 takes a free one."`
	Exec      string `name:"run" placeholder:"COMMAND" help:"Run COMMAND by the shell, with the URI in $uri, serve until it ends, and exit with its status."`
	ReadyFD   int    `name:"ready-fd" default:"-1" placeholder:"N" help:"When clients can connect, write the URI and a newline to file descriptor N, and close it."`
	openFlags `embed:""`
}

// Help implements kong.HelpProvider.
func (nbdCmd) Help() string {
	return `Serves the disk, read-only, to up to 256 clients at once until interrupted, and prints the URI to connect to on
standard error. Without a host it listens on 127.0.0.1 only. The protocol has no passwords: any program that can reach the address
can read the disk, of an encrypted image too.

A client that takes nothing of an answer for 30 seconds is disconnected. An idle client, and one that reads slowly, stay.
Besides --memory-limit the server takes up to 64 MiB of memory, and what the image's own tables take.

With --run the server listens on a Unix socket of its own, if neither --socket nor --listen is given; on Windows, on a free
TCP port. The command is run by sh -c, on Windows by cmd /c. As with nbdkit, these variables are in its environment:

    uri         the URI to connect to
    unixsocket  the Unix socket, empty if it is TCP
    port        the TCP port, empty if it is a Unix socket
    exportname  the name in the URI: that of --partition

The server ends when the command does. The exit status is then the command's, or 128 and the number of the signal that
ended it. Without --run an interrupt ends the server with status 0.

Example:

    dmg nbd Installer.dmg --run 'qemu-img convert -f raw -O qcow2 "$uri" disk.qcow2'
    dmg nbd Installer.dmg --run 'nbdinfo --map "$uri"'

    dmg nbd Installer.dmg --socket /tmp/dmg.sock &
    mkdir mountpoint
    nbdfuse mountpoint 'nbd+unix:///?socket=/tmp/dmg.sock'    # the disk is mountpoint/nbd`
}

// Run implements the command. Being told to stop is its normal end.
func (c *nbdCmd) Run(ctx context.Context, std *stdio) error {
	im, err := c.open(std, c.Image)
	if err != nil {
		return err
	}
	defer c.close(std, im)
	r, err := partitionRange(im, c.Partition)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Image, err)
	}
	ctx, stop := std.interruptible(ctx)
	defer stop()
	if c.Exec != "" && c.Socket == "" && c.Listen == "" {
		remove, err := c.choosePlace()
		if err != nil {
			return err
		}
		defer remove()
	}
	l, err := c.listen(ctx)
	if err != nil {
		return err
	}
	if err := c.ready(l.Addr()); err != nil {
		l.Close()
		return err
	}
	server := c.server(im, r, std)
	if c.Exec != "" {
		return c.serveCommand(ctx, std, server, l)
	}
	c.announce(std, l.Addr())
	return server.Serve(ctx, l)
}

// server makes the server of a range. Its export has the partition's name, and
// answers to the empty name, which clients ask for by default, as well.
func (c *nbdCmd) server(im *dmg.Image, r diskRange, std *stdio) *nbd.Server {
	logger := log.New(std.err, "dmg: ", 0)
	var stack sync.Once
	return &nbd.Server{
		Export: nbd.Export{
			Name:        c.Partition,
			Description: im.Format() + " " + filepath.Base(c.Image),
			Size:        r.length,
			ReaderAt:    shifted{im, r.off},
			Status:      newExtents(im.Chunks(), r).status,
			BlockSize:   nbdBlock,
		},
		ErrorLog: func(err error) {
			// What clients do wrong is their users' business; what the image lacks is ours, and so are our faults.
			var damaged *dmg.ChunkError
			var fault *nbd.PanicError
			isFault := errors.As(err, &fault)
			if c.Verbose || isFault || errors.As(err, &damaged) {
				logger.Print(oneLine(err) + hint(err))
			}
			if isFault { // once: clients can make a fault happen again and again
				stack.Do(func() { logger.Printf("this is a fault of dmg, please report it:\n%s", fault.Stack) })
			}
		},
	}
}

// listen opens the socket or the address.
func (c *nbdCmd) listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	if c.Socket == "" {
		return lc.Listen(ctx, "tcp", tcpAddr(c.Listen))
	}
	if err := removeStale(ctx, c.Socket); err != nil {
		return nil, err
	}
	return lc.Listen(ctx, "unix", c.Socket)
}

// tcpAddr completes what was given of an address: HOST:PORT, :PORT, PORT or
// HOST. In Go, and in most programs, an empty host means all interfaces; here
// that takes an explicit 0.0.0.0 or [::], since there is no other protection.
func tcpAddr(s string) string {
	if s == "" {
		s = nbdPort
	}
	if !strings.Contains(s, ":") && strings.Trim(s, "0123456789") == "" {
		s = ":" + s
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil { // no port; or nonsense, which Listen will tell
		host, port = strings.Trim(s, "[]"), nbdPort
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// removeStale removes a socket that nobody listens on: of a server that was
// killed. Anything else stays, and listening will fail.
func removeStale(ctx context.Context, name string) error {
	info, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return refusal(name + " exists and is no socket: give another name")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", name)
	if err == nil {
		conn.Close()
		return fmt.Errorf("another server listens on %s", name)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(name)
}

// announce prints how to connect, which only now is known if the port was 0.
func (c *nbdCmd) announce(std *stdio, addr net.Addr) {
	fmt.Fprintf(std.err, "dmg: serving %s at %s\n", printable(c.Image), exportURI(addr, c.Partition))
	if tcp, ok := addr.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		fmt.Fprintln(std.err, "dmg: warning: other machines that reach this address can read the disk")
	}
}

// exportURI is the URI of an export, by the rules of the NBD project's
// doc/uri.md.
func exportURI(addr net.Addr, name string) string {
	u := url.URL{Scheme: "nbd", Host: addr.String(), Path: "/" + name}
	if addr.Network() == "unix" {
		path := addr.String()
		if abs, err := filepath.Abs(path); err == nil {
			path = abs
		}
		u.Scheme, u.Host = "nbd+unix", ""
		// Slashes need no escape in a query, and people like to read them; a + is no space to everyone.
		query := strings.NewReplacer("%2F", "/", "+", "%20").Replace(url.QueryEscape(path))
		return u.Scheme + "://" + u.EscapedPath() + "?socket=" + query
	}
	return u.String()
}

// shifted is the disk from an offset on.
type shifted struct {
	im  *dmg.Image
	off int64
}

// ReadAt implements io.ReaderAt. The server keeps within its export's size.
func (s shifted) ReadAt(p []byte, off int64) (int, error) { return s.im.ReadAt(p, s.off+off) }

// extents tell holes from data in a range of the disk, quickly: the chunks may
// be many.
type extents struct {
	ends      []int64 // of runs that alternate between data and holes
	firstHole bool    // the first run is a hole
}

// Once there are so many runs, shorter holes count as data: an image may have one at every
// other sector.
const (
	manyRuns  = 1 << 20
	shortHole = 64 << 10
)

// newExtents joins the chunks of the range to runs of one kind, as few as there
// can be: an extent is an answer's size on the wire.
func newExtents(chunks iter.Seq[dmg.Chunk], r diskRange) *extents {
	x := new(extents)
	hole := false // of the last run
	for chunk := range chunks {
		end := min(chunk.Offset+chunk.Length, r.end()) - r.off
		if end <= 0 || chunk.Offset >= r.end() {
			continue
		}
		h := isHole(chunk.Method) && (len(x.ends) < manyRuns || chunk.Length >= shortHole)
		switch {
		case len(x.ends) == 0:
			x.firstHole, hole = h, h
			x.ends = append(x.ends, end)
		case h == hole:
			x.ends[len(x.ends)-1] = end
		default:
			hole = h
			x.ends = append(x.ends, end)
		}
	}
	return x
}

// status implements nbd.Export's Status.
func (x *extents) status(off int64) (end int64, hole bool) {
	i := sort.Search(len(x.ends), func(i int) bool { return x.ends[i] > off })
	if i == len(x.ends) {
		return off, false // past the end: nothing is known
	}
	return x.ends[i], x.firstHole == (i%2 == 0)
}

// isHole reports whether chunks of the method are zeros of which nothing is stored.
func isHole(m dmg.Method) bool { return m == dmg.Zero || m == dmg.Ignore }
