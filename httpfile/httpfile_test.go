package httpfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// serveContent serves file with the headers given.
func serveContent(w http.ResponseWriter, req *http.Request, file []byte, modified time.Time, etag string) {
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	http.ServeContent(w, req, "", modified, bytes.NewReader(file))
}

var readTests = []struct{ off, n, want int64 }{
	{0, 1, 1},
	{headLen - 1, 1, 1},
	{headLen - 1, 2, 2}, // from the head and from the server
	{headLen, 100, 100},
	{99_000, 1000, 1000},
	{99_000, 1001, 1000},
	{99_999, 5, 1},
	{100_000, 1, 0},
	{200_000, 1, 0},
}

func TestReadAt(t *testing.T) {
	file := dmgtest.Random(1, 100_000).Bytes()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		serveContent(w, req, file, time.Time{}, `"1"`)
	}))
	defer s.Close()
	r, err := open(t.Context(), s.Client(), s.URL, time.Millisecond, time.Minute)
	if err != nil || r.Size() != int64(len(file)) {
		t.Fatalf("Open: %v, %v", r, err)
	}
	for _, tt := range readTests {
		p := make([]byte, tt.n)
		n, err := r.ReadAt(p, tt.off)
		var wantErr error
		if tt.want < tt.n {
			wantErr = io.EOF
		}
		if int64(n) != tt.want || err != wantErr || n > 0 && !bytes.Equal(p[:n], file[tt.off:tt.off+int64(n)]) {
			t.Errorf("ReadAt(%d, %d) = %d, %v, want %d, %v; or wrong bytes", tt.n, tt.off, n, err, tt.want, wantErr)
		}
	}
	if n, err := r.ReadAt(make([]byte, 1), -1); n != 0 || err == nil {
		t.Errorf("ReadAt(1, -1) = %d, %v", n, err)
	}
}

// The file is replaced after it was opened. The server says so, or ignores what
// it is asked and only its headers tell.
func TestChanged(t *testing.T) {
	then, now := time.Unix(1_600_000_000, 0), time.Unix(1_700_000_000, 0)
	tests := []struct {
		name              string
		etag, newETag     string
		modified, changed time.Time
		newSize           int64
		deaf              bool // to preconditions
	}{
		{name: "ETag", etag: `"1"`, newETag: `"2"`, newSize: 100_000},
		{name: "ETag deaf", etag: `"1"`, newETag: `"2"`, newSize: 100_000, deaf: true},
		{name: "weak ETag", etag: `W/"1"`, newETag: `W/"2"`, newSize: 100_000},
		{name: "weak ETag and date", etag: `W/"1"`, newETag: `W/"2"`, modified: then, changed: now, newSize: 100_000},
		{name: "date", modified: then, changed: now, newSize: 100_000},
		{name: "date deaf", modified: then, changed: now, newSize: 100_000, deaf: true},
		{name: "earlier date", modified: now, changed: then, newSize: 100_000},
		{name: "size", newSize: 100_001},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			size, etag, modified := int64(100_000), tt.etag, tt.modified
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if tt.deaf {
					req.Header.Del("If-Match")
					req.Header.Del("If-Unmodified-Since")
				}
				serveContent(w, req, make([]byte, size), modified, etag)
			}))
			defer s.Close()
			r, err := open(t.Context(), s.Client(), s.URL, time.Millisecond, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 1000)
			if n, err := r.ReadAt(p, 50_000); n != len(p) || err != nil {
				t.Fatalf("before: %d, %v", n, err)
			}
			size, etag, modified = tt.newSize, tt.newETag, tt.changed
			if n, err := r.ReadAt(p, 50_000); n != 0 || !errors.Is(err, ErrChanged) {
				t.Errorf("after: %d, %v, want %v", n, err, ErrChanged)
			}
			again, err := open(t.Context(), s.Client(), s.URL, time.Millisecond, time.Minute)
			if err != nil || again.Version() == r.Version() {
				t.Errorf("both versions are %q (%v)", r.Version(), err)
			}
		})
	}
}

// Answers of servers that don't do what they should. None gives wrong bytes.
func TestAnswers(t *testing.T) {
	tests := []struct {
		name   string
		status int
		field  string // Content-Range
		length int    // of the body
		err    string // part of it; none: the answer is right
	}{
		{"whole", 206, "bytes 0-99/100", 100, ""},
		{"not found", 404, "", 10, "404"},
		{"empty file", 416, "bytes */0", 0, "is empty"},
		{"not satisfied", 416, "bytes */10", 0, "416"},
		{"no ranges", 200, "", 100, "does not serve parts"},
		{"no field", 206, "", 100, "Content-Range"},
		{"other unit", 206, "lines 0-99/100", 100, "Content-Range"},
		{"other part", 206, "bytes 1-99/100", 99, "not what was asked for"},
		{"backwards", 206, "bytes 0--1/100", 0, "not what was asked for"},
		{"past the end", 206, "bytes 0-100/100", 101, "not what was asked for"},
		{"unknown size", 206, "bytes 0-99/*", 100, "Content-Range"},
		{"huge size", 206, "bytes 0-99/99999999999999999999", 100, "Content-Range"},
		{"cut off", 206, "bytes 0-99/100", 99, ""}, // a read asks for the rest,
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("Content-Range", tt.field)
				w.WriteHeader(tt.status)
				w.Write(make([]byte, tt.length))
			}))
			defer s.Close()
			_, err := open(t.Context(), s.Client(), s.URL, time.Millisecond, time.Minute)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("Open: %v, want %q", err, tt.err)
			}
		})
	}
}

// A server may send less than it is asked for.
func TestShortAnswers(t *testing.T) {
	file := dmgtest.Random(1, 100_000).Bytes()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var first, last int64
		if _, err := fmt.Sscanf(req.Header.Get("Range"), "bytes=%d-%d", &first, &last); err != nil {
			t.Errorf("Range %q: %v", req.Header.Get("Range"), err)
		}
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", first, min(last, first+999)))
		serveContent(w, req, file, time.Time{}, "")
	}))
	defer s.Close()
	r, err := open(t.Context(), s.Client(), s.URL, time.Millisecond, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil || !bytes.Equal(got, file) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// rude is a server that does not answer some requests as it should.
type rude struct {
	*httptest.Server
	requests atomic.Int64
}

// newRude returns a server of file; bad has the numbers of requests, from 1 on, that
// answer takes over.
func newRude(t *testing.T, file []byte, bad func(n int64) bool, answer http.HandlerFunc) *rude {
	r := new(rude)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if bad(r.requests.Add(1)) {
			answer(w, req)
			return
		}
		serveContent(w, req, file, time.Time{}, `"1"`)
	}))
	t.Cleanup(r.Close)
	return r
}

// A request that fails is made again, if that may help, and no more than so often.
func TestRetries(t *testing.T) {
	file := dmgtest.Random(1, 100_000).Bytes()
	status := func(code int, after string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if after != "" {
				w.Header().Set("Retry-After", after)
			}
			w.WriteHeader(code)
		}
	}
	cut := func(w http.ResponseWriter, req *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		c.Close()
	}
	half := func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Range", "bytes 50000-50999/100000")
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(206)
		w.Write(file[50_000:50_500])
	}
	hang := func(w http.ResponseWriter, req *http.Request) { <-req.Context().Done() }
	for _, tt := range []struct {
		name     string
		answer   http.HandlerFunc
		bad      int64 // so many requests behind the first
		requests int64 // in all
		err      string
	}{
		{"busy once", status(503, ""), 1, 3, ""},
		{"busy four times", status(503, ""), 4, 6, ""},
		{"busy too often", status(503, ""), 5, 6, "503"},
		{"too many", status(429, "0"), 2, 4, ""},
		{"wait a day", status(429, "86400"), 1, 2, "again in 24h"},
		{"wait until a date", status(503, time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)), 1, 2, "again in"},
		{"gone", status(404, ""), 1, 2, "404"},
		{"forbidden", status(403, ""), 1, 2, "403"},
		{"cut off", cut, 2, 4, ""},
		{"cut off too often", cut, 99, 6, "EOF"},
		{"half", half, 1, 3, ""},
		{"hangs", hang, 1, 3, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newRude(t, file, func(n int64) bool { return n > 1 && n <= 1+tt.bad }, tt.answer)
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // which makes some requests again by itself
			f, err := open(t.Context(), client, s.URL, time.Millisecond, 300*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 1000)
			n, err := f.ReadAt(p, 50_000)
			if tt.err == "" && (n != len(p) || err != nil || !bytes.Equal(p, file[50_000:51_000])) {
				t.Errorf("%d, %v, or wrong bytes", n, err)
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), s.URL)) {
				t.Errorf("%d, %v, want %q and the URL", n, err, tt.err)
			}
			if got := s.requests.Load(); got != tt.requests {
				t.Errorf("%d requests, want %d", got, tt.requests)
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	whole := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("<html>"))
	}))
	defer whole.Close()
	for _, tt := range []struct {
		url, err string
		is       error
	}{
		{whole.URL, "download it", ErrNoRanges},
		{"ftp://example.com/x", "not an http or https URL", nil},
		{"image.dmg", "not an http or https URL", nil},
		{"http://bad host/", "invalid", nil},
		{strings.Replace(whole.URL, "http://", "http://me:hush@", 1), "me:xxxxx@", ErrNoRanges},
		{"http://127.0.0.1:1/x", "127.0.0.1:1/x", nil},
	} {
		start := time.Now()
		_, err := Open(t.Context(), nil, tt.url)
		if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "hush") || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: %v, want %q", tt.url, err, tt.err)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%s: an error after %v", tt.url, d)
		}
	}
}

// A context that is done ends a request that waits, and the waiting between two.
func TestContext(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"request": func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() },
		"between": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "50")
			w.WriteHeader(503)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newRude(t, make([]byte, 100_000), func(n int64) bool { return n > 1 }, answer)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			f, err := Open(ctx, s.Client(), s.URL)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := f.ReadAt(make([]byte, 10), 50_000); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("ReadAt = %d, %v", n, err)
			}
		})
	}
}

// Readers at once, behind a redirect, of which each request follows its own.
func TestTogether(t *testing.T) {
	file := dmgtest.Random(1, 1<<20).Bytes()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/" {
			http.Redirect(w, req, "/elsewhere", http.StatusFound)
			return
		}
		serveContent(w, req, file, time.Time{}, `"1"`)
	}))
	defer s.Close()
	f, err := Open(t.Context(), nil, s.URL)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range int64(16) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			p := make([]byte, 5000)
			for i := range int64(20) {
				off := (g*20 + i) * 3000 % int64(len(file)-len(p))
				if n, err := f.ReadAt(p, off); n != len(p) || err != nil || !bytes.Equal(p, file[off:off+5000]) {
					t.Errorf("ReadAt(%d) = %d, %v, or wrong bytes", off, n, err)
				}
			}
		}()
	}
	wg.Wait()
}
