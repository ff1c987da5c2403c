// Package httpfile reads a file on a web server at random, by range requests (RFC 9110,
// section 14), so that a program fetches only the bytes it needs:
//
//	f, err := httpfile.Open(ctx, nil, "https://example.com/image.dmg")
//	if err != nil {
//		return err
//	}
//	im, err := dmg.NewImage(f, f.Size(), nil)
//
// It never mixes two versions of a file, and asks again where a server is busy or a
// connection breaks.
package httpfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

var (
	// ErrChanged says that the file was replaced on the server after it was opened.
	// Open it again.
	ErrChanged = errors.New("the file has changed on the server since it was opened")

	// ErrNoRanges says that the server sends files only as a whole. Download the file.
	ErrNoRanges = errors.New("the server does not serve parts of this file: download it, and open the copy")
)

// StatusError is the answer of a server that can't or won't send the file.
type StatusError struct {
	Code   int    // such as 404
	Status string // such as "404 Not Found"

	after time.Duration // that the server asks to wait before the next request
}

// Error returns the status.
func (e *StatusError) Error() string { return e.Status }

const (
	// headLen is how many bytes Open asks for to learn the file's size. Readers of a
	// format want the first ones first.
	headLen = 32 << 10

	attempts  = 5                      // of one request, the first one included
	firstWait = 250 * time.Millisecond // before the second attempt; it doubles
	longWait  = time.Minute            // a server that asks for more is not waited for
	stall     = time.Minute            // an answer of which nothing comes for so long is given up
)

// File is a file on a web server. It implements [io.ReaderAt]. Its methods may be called
// concurrently; each call of ReadAt makes requests of its own.
type File struct {
	ctx     context.Context
	client  *http.Client
	url     string
	name    string // url without its password
	version version
	head    []byte // the file's beginning, which came when it was opened

	wait  time.Duration // firstWait
	stall time.Duration
}

// version tells one state of a file from another (RFC 9110, section 8.8).
type version struct {
	size           int64 // in bytes
	etag, modified string
}

// Open makes one request, from which it learns the file's size and version. HEAD would do,
// but not with URLs that are signed for GET.
//
// When ctx is done, so are this and all requests of later reads, which return its error.
// Client may be nil: then it is one with timeouts for connecting, and with room for 16
// connections that are reused. Proxies, cookies and credentials are the client's. Each
// request follows redirects anew, since where they lead may be good for a while only.
//
// Requests that fail are made again, up to four times, if the connection broke or the
// server answered 408, 429, 500, 502, 503 or 504. Only a server that can't be reached when
// the file is opened is an error at once. Open and reads wait between them as long
// as the server's Retry-After asks for, or else a quarter of a second at first. If the
// server asks for more than a minute the error says so.
//
// Errors name the URL. They are a *[StatusError], [ErrNoRanges], [ErrChanged], ctx's, or
// the client's.
func Open(ctx context.Context, client *http.Client, rawURL string) (*File, error) {
	return open(ctx, client, rawURL, firstWait, stall)
}

func open(ctx context.Context, client *http.Client, rawURL string, wait, stall time.Duration) (*File, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err // names the URL
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s: not an http or https URL", u.Redacted())
	}
	if client == nil {
		client = defaultClient()
	}
	f := &File{ctx: ctx, client: client, url: rawURL, name: u.Redacted(), wait: wait, stall: stall}
	head := make([]byte, headLen)
	n, err := f.fetch(head, 0)
	if err != nil {
		return nil, err
	}
	f.head = head[:n]
	return f, nil
}

// defaultClient returns a client that does not wait forever, and keeps the connections of
// as many readers as a program has.
func defaultClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 16
	t.ResponseHeaderTimeout = stall
	return &http.Client{Transport: t}
}

// Size returns the file's size in bytes.
func (f *File) Size() int64 { return f.version.size }

// Version returns a text that is another one once the file has changed on the server, as a
// key for what a program keeps of it. It is made of the file's size and of what the server
// gave it of an ETag and a date. A server that gives neither can change a file and keep its
// version.
func (f *File) Version() string {
	v := f.version
	return fmt.Sprintf("%d %q %q", v.size, v.etag, v.modified)
}

// ReadAt implements [io.ReaderAt]. It makes one request, or more where the server sends
// less than it is asked for. The bytes before an error are right.
func (f *File) ReadAt(p []byte, off int64) (n int, err error) {
	switch {
	case off < 0:
		return 0, fmt.Errorf("%s: offset %d is negative", f.name, off)
	case off >= f.Size():
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), f.Size()-off)]
	if off < int64(len(f.head)) {
		n = copy(want, f.head[off:])
	}
	for n < len(want) && err == nil {
		var k int
		k, err = f.fetch(want[n:], off+int64(n))
		n += k
	}
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// fetch reads as much of p as one answer brings: a server may send less than it is asked
// for (RFC 9110, section 15.3.7). It tries again what may be tried again. It brings a byte
// at least, or an error.
func (f *File) fetch(p []byte, off int64) (int, error) {
	wait := f.wait
	for attempt := 1; ; attempt++ {
		n, err := f.get(p, off)
		if n > 0 {
			return n, nil // what follows is asked for anew
		}
		after, again := retryAfter(err)
		if !again || attempt == attempts || f.ctx.Err() != nil {
			return 0, fmt.Errorf("%s: %w", f.name, err)
		}
		if after > longWait {
			return 0, fmt.Errorf("%s: %w; the server asks to try again in %v", f.name, err, after)
		}
		select {
		case <-time.After(max(wait, after)):
		case <-f.ctx.Done():
			return 0, fmt.Errorf("%s: %w", f.name, context.Cause(f.ctx))
		}
		wait *= 2
	}
}

// errBroken marks an error of a connection that another one may not have.
type errBroken struct{ error }

func (e errBroken) Unwrap() error { return e.error }

// retryAfter reports whether a request that failed may do better another time, and after
// which wait, if the server said so.
func retryAfter(err error) (time.Duration, bool) {
	var status *StatusError
	if errors.As(err, &status) {
		switch status.Code {
		case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return status.after, true
		}
		return 0, false
	}
	var broken errBroken
	return 0, errors.As(err, &broken)
}

// get makes one request, for the bytes of p from byte off on, and returns how many of them
// came. The first one sets the file's version.
func (f *File) get(p []byte, off int64) (int, error) {
	ctx, cancel := context.WithCancelCause(f.ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+int64(len(p))-1))
	req.Header.Set("Accept-Encoding", "identity") // a range of a packed file is not one of the file
	f.version.require(req.Header)
	late := time.AfterFunc(f.stall, func() { cancel(fmt.Errorf("nothing came for %v", f.stall)) })
	defer late.Stop()
	opening := f.version == version{}
	resp, err := f.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // fetch names the URL, without its password
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if opening { // the name may be wrong
			return 0, err
		}
		return 0, errBroken{err}
	}
	defer resp.Body.Close()
	v, length, err := parsePart(resp, off)
	switch {
	case err != nil:
		return 0, err
	case opening:
		f.version = v
	case v != f.version:
		return 0, ErrChanged
	}
	p = p[:min(length, int64(len(p)))]
	n := 0
	for n < len(p) && err == nil {
		late.Reset(f.stall)
		var k int
		k, err = resp.Body.Read(p[n:])
		n += k
	}
	switch {
	case n == len(p):
		return n, nil
	case err == io.EOF:
		err = io.ErrUnexpectedEOF // the connection ended before the part did
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return n, errBroken{err}
}

// require asks the server for this version or nothing. A weak ETag never matches (RFC 9110,
// section 13.1.1).
func (v version) require(h http.Header) {
	switch {
	case v.etag != "" && !strings.HasPrefix(v.etag, "W/"):
		h.Set("If-Match", v.etag)
	case v.modified != "":
		h.Set("If-Unmodified-Since", v.modified)
	}
}

// parsePart checks that an answer is a part of a file that begins at byte off, and returns
// the file's version and the part's length in bytes. A server that does not know ranges
// sends all of the file instead.
func parsePart(resp *http.Response, off int64) (v version, length int64, err error) {
	switch resp.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK:
		return v, 0, ErrNoRanges
	case http.StatusPreconditionFailed:
		return v, 0, ErrChanged
	case http.StatusRequestedRangeNotSatisfiable:
		if off == 0 && resp.Header.Get("Content-Range") == "bytes */0" {
			return v, 0, errors.New("the file is empty")
		}
		fallthrough
	default:
		return v, 0, &StatusError{resp.StatusCode, resp.Status, parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())}
	}
	var first, last, size int64
	field := resp.Header.Get("Content-Range")
	if _, err := fmt.Sscanf(field, "bytes %d-%d/%d", &first, &last, &size); err != nil {
		return v, 0, fmt.Errorf("Content-Range %q: %w", field, err)
	}
	if first != off || last < first || last >= size {
		return v, 0, fmt.Errorf("Content-Range %q is not what was asked for, which begins at byte %d", field, off)
	}
	return version{size, resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")}, last - first + 1, nil
}

// parseRetryAfter returns how long a server asks to wait, in seconds or until a date
// (RFC 9110, section 10.2.3); 0 if it does not say so.
func parseRetryAfter(field string, now time.Time) time.Duration {
	var seconds uint32
	if _, err := fmt.Sscanf(field, "%d", &seconds); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(field); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
