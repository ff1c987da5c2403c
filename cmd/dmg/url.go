package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/httpfile"
)

// A web is what a command reads from web servers.
type web struct {
	ctx    context.Context // of all requests
	cancel context.CancelFunc
	client *http.Client

	// urls are the URLs of the command line that have a password, by what is shown of
	// them.
	urls map[string]string
}

// newWeb returns a web, and the command line with no password in its URLs, so that none
// can get into a message.
func newWeb(args []string) (*web, []string) {
	t := http.DefaultTransport.(*http.Transport).Clone() // with the proxies of the environment
	t.MaxIdleConnsPerHost = 16
	t.ResponseHeaderTimeout = time.Minute
	w := &web{client: &http.Client{Transport: t}, urls: make(map[string]string)}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	shown := make([]string, len(args))
	for i, arg := range args {
		flag := ""
		if name, value, ok := strings.Cut(arg, "="); ok && strings.HasPrefix(arg, "-") {
			flag, arg = name+"=", value
		}
		text := withoutPassword(arg)
		if text != arg {
			w.urls[text] = arg
		}
		shown[i] = flag + text
	}
	return w, shown
}

// close ends what is under way, and the connections.
func (w *web) close() {
	w.cancel()
	w.client.CloseIdleConnections()
}

// isURL reports whether a name is the URL of a file on a web server.
func isURL(name string) bool {
	scheme, _, ok := strings.Cut(name, "://")
	return ok && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https"))
}

// withoutPassword hides the password in a URL, also in one that is no valid one.
func withoutPassword(s string) string {
	if !isURL(s) {
		return s
	}
	start := strings.Index(s, "://") + len("://")
	end := len(s)
	if i := strings.IndexAny(s[start:], "/?#"); i >= 0 {
		end = start + i
	}
	at := strings.LastIndexByte(s[start:end], '@')
	if at < 0 {
		return s
	}
	user, _, ok := strings.Cut(s[start:start+at], ":")
	if !ok {
		return s
	}
	return s[:start] + user + ":xxxxx" + s[start+at:]
}

// A urlError is an error of reading from a web server. Its text names the URL.
type urlError struct {
	url string
	err error
}

// Error returns the cause's text, which may begin with the URL.
func (e *urlError) Error() string {
	return e.url + ": " + strings.TrimPrefix(e.err.Error(), e.url+": ")
}

// Unwrap returns the cause.
func (e *urlError) Unwrap() error { return e.err }

// urlText names the URL once in the text of an error, where a command has named its image
// besides.
func urlText(err error, text string) string {
	var u *urlError
	if !errors.As(err, &u) {
		return text
	}
	named := u.url + ": "
	before, after, ok := strings.Cut(text, named)
	if !ok { // it has what is escaped there
		return text
	}
	return before + named + strings.ReplaceAll(after, named, "")
}

// file opens the file at a URL as it is shown.
func (w *web) file(shown string) (*webFile, error) {
	target := shown
	if u, ok := w.urls[shown]; ok {
		target = u
	}
	if _, err := url.Parse(target); err != nil {
		var cause *url.Error
		if errors.As(err, &cause) {
			err = cause.Err // which does not have the password
		}
		return nil, refusal(fmt.Sprintf("%s: not a valid URL: %v", shown, err))
	}
	f, err := httpfile.Open(w.ctx, w.client, target)
	if err != nil {
		return nil, &urlError{shown, err}
	}
	r := &webReader{file: f, shown: shown, onward: -1}
	return &webFile{io.NewSectionReader(r, 0, f.Size()), f, shown}, nil
}

// webReader reads a file of a web server. Its errors but io.EOF are a *urlError.
//
// It keeps the file's end once that has been read: an image's tables are there, which are
// read again with an index or another password, and as a rule the data of the disk's last
// chunk. And it reads ahead where a short read goes on from the one before: so does whoever
// reads the nodes of a tree one by one, and each would be a request.
type webReader struct {
	file  *httpfile.File
	shown string

	mu     sync.Mutex
	tail   span  // the file's end
	ahead  span  // what was read ahead last
	onward int64 // where the last read of the server ended
}

// A span is a part of a file.
type span struct {
	off  int64
	data []byte
}

const (
	// tailLen is how many bytes of the end are kept: as many as are read when an image
	// is opened.
	tailLen = 32 << 10

	// shortRead is what is read ahead of, and aheadLen how much is read then.
	shortRead = 64 << 10
	aheadLen  = 256 << 10
)

// ReadAt implements io.ReaderAt.
func (r *webReader) ReadAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	tail, ahead, goesOn := r.tail, r.ahead, off == r.onward && len(p) <= shortRead
	r.mu.Unlock()
	if tail.copy(p, off) || ahead.copy(p, off) {
		return len(p), nil
	}
	b := p
	if goesOn {
		b = make([]byte, min(aheadLen, max(int64(len(p)), r.file.Size()-off)))
	}
	n, err := r.file.ReadAt(b, off)
	r.mu.Lock()
	r.onward = off + int64(n)
	if start := r.file.Size() - tailLen; off == start && n == tailLen {
		r.tail = span{off, slices.Clone(b[:n])}
	}
	if goesOn {
		r.ahead = span{off, b[:n]}
	}
	r.mu.Unlock()
	if goesOn {
		if n = copy(p, b[:n]); n == len(p) {
			err = nil // it is one of what is behind
		}
	}
	if err != nil && err != io.EOF {
		err = &urlError{r.shown, err}
	}
	return n, err
}

// copy fills p from off on, if the span has all of that.
func (s span) copy(p []byte, off int64) bool {
	if off < s.off || off-s.off > int64(len(s.data)-len(p)) {
		return false
	}
	copy(p, s.data[off-s.off:])
	return true
}

// A webFile is a file on a web server as an fs.File.
type webFile struct {
	*io.SectionReader
	file  *httpfile.File
	shown string
}

// Stat implements fs.File.
func (f *webFile) Stat() (fs.FileInfo, error) { return webInfo{f}, nil }

// Close implements fs.File. The file stays open for others: web.close ends all.
func (f *webFile) Close() error { return nil }

// webInfo describes a webFile.
type webInfo struct{ *webFile }

func (i webInfo) Name() string       { return path.Base(i.shown) }
func (i webInfo) Size() int64        { return i.file.Size() }
func (i webInfo) Mode() fs.FileMode  { return 0o444 }
func (i webInfo) ModTime() time.Time { return time.Time{} }
func (i webInfo) IsDir() bool        { return false }
func (i webInfo) Sys() any           { return nil }

// A webFolder is where an image lies on a web server: its other parts, if it is split,
// have URLs that differ in the last name of the path. What else is there can't be told.
// A file is opened once.
type webFolder struct {
	web   *web
	image string // its URL, as it is shown
	name  string // of the image in the folder

	mu    sync.Mutex
	files map[string]*webFile // by name
}

// maxParts bounds the files of a split image on a server, each of which takes 64 KiB of
// memory.
const maxParts = 1000

// folder opens the image at a URL, and returns the folder that has it.
func (w *web) folder(image string) (*webFolder, error) {
	u, err := url.Parse(image)
	if err == nil && strings.EqualFold(path.Ext(path.Base(u.Path)), ".sparsebundle") {
		return nil, refusal(image + ": a sparse bundle is a folder of many files, which can't be read from a web server: copy all of it to a disk")
	}
	f, fileErr := w.file(image)
	if fileErr != nil {
		return nil, fileErr
	}
	if err != nil {
		return nil, err // it was valid with its password
	}
	d := &webFolder{web: w, image: image, name: "image.dmg", files: make(map[string]*webFile)}
	if name := path.Base(u.Path); fs.ValidPath(name) && name != "." {
		d.name = name
	}
	d.files[d.name] = f
	return d, nil
}

// Open implements fs.FS.
func (d *webFolder) Open(name string) (fs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[name]
	if f == nil {
		if !fs.ValidPath(name) || path.Dir(name) != "." || name == "." {
			return nil, &fs.PathError{Op: "open", Path: name, Err: errors.ErrUnsupported}
		}
		if len(d.files) >= maxParts {
			return nil, refusal(fmt.Sprintf("%s: split into more than %d files, too many to read from a web server", d.image, maxParts))
		}
		shown := d.image
		if err := editURL(&shown, func(p string) string { return path.Join(path.Dir(p), name) }); err != nil {
			return nil, err
		}
		if target, ok := d.web.urls[d.image]; ok {
			if err := editURL(&target, func(p string) string { return path.Join(path.Dir(p), name) }); err != nil {
				return nil, err
			}
			d.web.urls[shown] = target
		}
		var err error
		f, err = d.web.file(shown)
		if isMissing(err) {
			return nil, &fs.PathError{Op: "open", Path: shown, Err: fs.ErrNotExist}
		}
		if err != nil {
			return nil, err
		}
		d.files[name] = f
	}
	return &webFile{io.NewSectionReader(f.SectionReader, 0, f.Size()), f.file, f.shown}, nil
}

// editURL changes the path of a URL.
func editURL(s *string, edit func(path string) string) error {
	u, err := url.Parse(*s)
	if err != nil {
		return err
	}
	u.Path, u.RawPath = edit(u.Path), ""
	*s = u.String()
	return nil
}

// isMissing reports whether a server says that it has no such file.
func isMissing(err error) bool {
	return isStatus(err, http.StatusNotFound) || isStatus(err, http.StatusGone)
}

// isStatus reports whether a server answered with the status.
func isStatus(err error, code int) bool {
	var status *httpfile.StatusError
	return errors.As(err, &status) && status.Code == code
}

// open implements opener. The image's name is known already.
func (d *webFolder) open(_ string, opts *dmg.Options) (*dmg.Image, error) {
	return dmg.OpenFS(d, d.name, opts)
}

// wantsIndex reports whether an image has a chunk so long that a random read in it, without
// an index, fetches more than a request for one costs.
func wantsIndex(im *dmg.Image) bool {
	const long = 4 << 20 // bytes, as they are stored
	for c := range im.Chunks() {
		if c.DataLength > long && c.Method != dmg.Raw {
			return true
		}
	}
	return false
}

// index returns the index beside the image, nil if there is none.
func (d *webFolder) index() (*dmg.Index, string, error) {
	name := d.image
	if err := editURL(&name, func(p string) string { return p + indexExt }); err != nil {
		return nil, name, err
	}
	if target, ok := d.web.urls[d.image]; ok {
		if err := editURL(&target, func(p string) string { return p + indexExt }); err != nil {
			return nil, name, err
		}
		d.web.urls[name] = target
	}
	index, err := d.web.readIndex(name)
	if isMissing(err) {
		return nil, name, fs.ErrNotExist
	}
	return index, name, err
}

// readIndex reads the index at a URL.
func (w *web) readIndex(shown string) (*dmg.Index, error) {
	f, err := w.file(shown)
	if err != nil {
		return nil, err
	}
	return dmg.ReadIndex(bufio.NewReaderSize(f, 1<<20))
}

// cachedIndex is the name of the file in the user's cache folder that may have an index of
// the image. It depends on the image's version on the server: an index of another version
// is not found. Old is how the names begin of those of all versions.
func (d *webFolder) cachedIndex() (name, old string, err error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", "", err
	}
	key := func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s)))[:32] }
	old = key(d.image) + "-"
	return filepath.Join(dir, "dmg", "index", old+key(d.files[d.name].file.Version())+indexExt), old, nil
}

// opener returns the function that opens the image as it is, and of a URL also the folder
// that has it.
func (std *stdio) opener(image string) (opener, *webFolder, error) {
	if !isURL(image) {
		return dmg.Open, nil, nil
	}
	d, err := std.web.folder(image)
	if err != nil {
		return nil, nil, err
	}
	return d.open, d, nil
}

// readIndex reads the index at a URL, or in a file that must be regular if the user did not
// name it.
func (std *stdio) readIndex(name string, regular bool) (*dmg.Index, error) {
	if isURL(name) {
		return std.web.readIndex(name)
	}
	return readIndex(name, regular)
}

// withIndexBeside opens the image with the index beside it, if it has use for one, and one
// is there. Only the open image tells whether it has. To open it twice fetches little.
func (f *openFlags) withIndexBeside(std *stdio, d *webFolder) opener {
	return func(image string, opts *dmg.Options) (*dmg.Image, error) {
		im, err := d.open(image, opts)
		if err != nil || opts.Index != nil || !wantsIndex(im) {
			return im, err
		}
		index, name, err := d.index()
		if err == nil {
			im.Close()
			return f.openIndexed(std, image, opts, name, index, d.open)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			f.ignoreIndex(std, image, newIndexError(name, err))
		}
		return im, nil
	}
}

// interruptible is the function of that name, for requests too. The function that it
// returns lets them be.
func (std *stdio) interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := interruptible(ctx)
	if std.web == nil { // of a test
		return ctx, stop
	}
	keep := context.AfterFunc(ctx, std.web.cancel)
	return ctx, func() { keep(); stop() }
}
