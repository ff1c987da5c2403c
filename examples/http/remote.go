package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// remote is a file on a web server as an io.ReaderAt: what a read lacks is one
// range request (RFC 9110, section 14). It is safe for concurrent use. It never
// mixes two versions of the file.
//
// Timeouts, retries and credentials are up to the client. Redirects are followed
// anew by each request, because where they lead may be good for a while only.
type remote struct {
	client  *http.Client
	url     string
	version version
	head    []byte // the file's beginning, which came when it was opened
}

// version tells one state of a file from another (RFC 9110, section 8.8).
type version struct {
	size           int64 // in bytes
	etag, modified string
}

// errChanged is the error of reads after the file was replaced on the server.
var errChanged = errors.New("the file has changed on the server since it was opened")

// headLen is how many bytes are asked for to learn a file's size. They are the
// ones that a reader of its format wants first.
const headLen = 32 << 10

// openRemote finds the file's size and version. HEAD would do for that, but not
// with URLs that are signed for GET.
func openRemote(client *http.Client, url string) (*remote, error) {
	r := &remote{client: client, url: url}
	p, err := r.get(0, headLen)
	if err != nil {
		return nil, err
	}
	defer p.body.Close()
	r.version = p.version
	r.head = make([]byte, min(p.length, headLen))
	if err := p.read(r.head); err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	return r, nil
}

// Size returns the file's size in bytes.
func (r *remote) Size() int64 { return r.version.size }

// ReadAt implements io.ReaderAt.
func (r *remote) ReadAt(b []byte, off int64) (n int, err error) {
	switch {
	case off < 0:
		return 0, fmt.Errorf("%s: offset %d is negative", r.url, off)
	case off >= r.Size():
		return 0, io.EOF
	}
	want := b[:min(int64(len(b)), r.Size()-off)]
	if off < int64(len(r.head)) {
		n = copy(want, r.head[off:])
	}
	for n < len(want) && err == nil {
		var k int
		k, err = r.fetch(want[n:], off+int64(n))
		n += k
	}
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

// fetch reads as much of what b asks for as one answer brings: a server may send
// less than that (RFC 9110, section 15.3.7).
func (r *remote) fetch(b []byte, off int64) (int, error) {
	p, err := r.get(off, int64(len(b)))
	if err != nil {
		return 0, err
	}
	defer p.body.Close()
	if p.version != r.version {
		return 0, fmt.Errorf("%s: %w", r.url, errChanged)
	}
	b = b[:min(p.length, int64(len(b)))]
	if err := p.read(b); err != nil {
		return 0, fmt.Errorf("%s: %w", r.url, err)
	}
	return len(b), nil
}

// part is an answer that holds part of a file.
type part struct {
	version version
	length  int64 // in bytes
	body    io.ReadCloser
}

// read fills b, or fails: the connection may end before the part does.
func (p part) read(b []byte) error {
	_, err := io.ReadFull(p.body, b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// get asks for n bytes from byte off on.
func (r *remote) get(off, n int64) (part, error) {
	req, err := http.NewRequest(http.MethodGet, r.url, nil)
	if err != nil {
		return part{}, err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	req.Header.Set("Accept-Encoding", "identity") // a range of a packed file is not one of the file
	r.version.require(req.Header)
	resp, err := r.client.Do(req)
	if err != nil {
		return part{}, err // names the URL
	}
	p, err := parsePart(resp, off)
	if err != nil {
		resp.Body.Close()
		return part{}, fmt.Errorf("%s: %w", r.url, err)
	}
	return p, nil
}

// require asks the server for this version or nothing. A weak ETag never
// matches (RFC 9110, section 13.1.1).
func (v version) require(h http.Header) {
	switch {
	case v.etag != "" && !strings.HasPrefix(v.etag, "W/"):
		h.Set("If-Match", v.etag)
	case v.modified != "":
		h.Set("If-Unmodified-Since", v.modified)
	}
}

// parsePart checks that an answer is a part of a file that begins at byte off. A
// server that does not know ranges sends all of the file instead.
func parsePart(resp *http.Response, off int64) (part, error) {
	switch resp.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK:
		return part{}, errors.New("the server does not serve parts of this file")
	case http.StatusPreconditionFailed:
		return part{}, errChanged
	default:
		return part{}, errors.New(resp.Status)
	}
	var first, last, size int64
	field := resp.Header.Get("Content-Range")
	if _, err := fmt.Sscanf(field, "bytes %d-%d/%d", &first, &last, &size); err != nil {
		return part{}, fmt.Errorf("Content-Range %q: %w", field, err)
	}
	if first != off || last < first || last >= size {
		return part{}, fmt.Errorf("Content-Range %q is not what was asked for, which begins at byte %d", field, off)
	}
	return part{
		version: version{size, resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")},
		length:  last - first + 1,
		body:    resp.Body,
	}, nil
}
