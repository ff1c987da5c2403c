package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
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
	r, err := openRemote(s.Client(), s.URL)
	if err != nil || r.Size() != int64(len(file)) {
		t.Fatalf("openRemote: %v, %v", r, err)
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
			r, err := openRemote(s.Client(), s.URL)
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 1000)
			if n, err := r.ReadAt(p, 50_000); n != len(p) || err != nil {
				t.Fatalf("before: %d, %v", n, err)
			}
			size, etag, modified = tt.newSize, tt.newETag, tt.changed
			if n, err := r.ReadAt(p, 50_000); n != 0 || !errors.Is(err, errChanged) {
				t.Errorf("after: %d, %v, want %v", n, err, errChanged)
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
		{"empty file", 416, "bytes */0", 0, "416"},
		{"no ranges", 200, "", 100, "does not serve parts"},
		{"no field", 206, "", 100, "Content-Range"},
		{"other unit", 206, "lines 0-99/100", 100, "Content-Range"},
		{"other part", 206, "bytes 1-99/100", 99, "not what was asked for"},
		{"backwards", 206, "bytes 0--1/100", 0, "not what was asked for"},
		{"past the end", 206, "bytes 0-100/100", 101, "not what was asked for"},
		{"unknown size", 206, "bytes 0-99/*", 100, "Content-Range"},
		{"huge size", 206, "bytes 0-99/99999999999999999999", 100, "Content-Range"},
		{"cut off", 206, "bytes 0-99/100", 99, "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("Content-Range", tt.field)
				w.WriteHeader(tt.status)
				w.Write(make([]byte, tt.length))
			}))
			defer s.Close()
			_, err := openRemote(s.Client(), s.URL)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("openRemote: %v, want %q", err, tt.err)
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
	r, err := openRemote(s.Client(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil || !bytes.Equal(got, file) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
