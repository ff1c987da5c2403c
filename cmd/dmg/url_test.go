package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/hfsvol"
)

// A site is a web server of some files, 20 ms away, which counts.
type site struct {
	*httptest.Server
	files map[string][]byte // by path
	auth  string            // user:password; none: open to all
	etag  string
	near  bool // it answers at once
	fail  int  // the number of requests from which on it refuses all; 0: never

	mu       sync.Mutex
	requests []string // path and range
	bytes    int64
}

func newSite(t *testing.T, files map[string][]byte) *site {
	s := &site{files: files, etag: `"1"`}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *site) serve(w http.ResponseWriter, req *http.Request) {
	if !s.near {
		time.Sleep(20 * time.Millisecond)
	}
	s.mu.Lock()
	s.requests = append(s.requests, req.URL.Path+" "+req.Header.Get("Range"))
	file, ok := s.files[req.URL.Path]
	etag, n := s.etag, len(s.requests)
	s.mu.Unlock()
	user, password, _ := req.BasicAuth()
	switch {
	case s.fail > 0 && n > s.fail:
		http.Error(w, "no more", http.StatusForbidden)
	case s.auth != "" && user+":"+password != s.auth:
		http.Error(w, "who are you?", http.StatusUnauthorized)
	case !ok:
		http.NotFound(w, req)
	default:
		w.Header().Set("ETag", etag)
		http.ServeContent(&siteWriter{w, s}, req, "", time.Time{}, bytes.NewReader(file))
	}
}

type siteWriter struct {
	http.ResponseWriter
	site *site
}

// Write counts first: the client may have all of it before Write returns.
func (w *siteWriter) Write(p []byte) (int, error) {
	w.site.mu.Lock()
	w.site.bytes += int64(len(p))
	w.site.mu.Unlock()
	return w.ResponseWriter.Write(p)
}

// cost returns what was asked for since the last call, and how many bytes were sent.
func (s *site) cost() ([]string, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests, n := s.requests, s.bytes
	s.requests, s.bytes = nil, 0
	return requests, n
}

// installer is an image of an HFS+ volume as in an installer: with an application of 800
// names, most small and some large, of size bytes in all, in zlib chunks of 1 MiB.
func installer(t *testing.T, size int, o hfsvol.Options) []byte {
	t.Helper()
	plist := []byte("<plist>" + strings.Repeat("<key>CFBundleVersion</key><string>1.0</string>\n", 40) + "</plist>\n")
	app := hfsvol.Dir("Foo.app")
	contents := hfsvol.Dir("Contents", hfsvol.File("Info.plist", plist))
	app.Children = []*hfsvol.Entry{contents}
	const folders, names = 12, 65
	seed := uint64(1)
	for i := range folders {
		dir := hfsvol.Dir(fmt.Sprintf("Resources %02d.lproj", i))
		for k := range names {
			n := size / folders / names
			if k%8 > 0 {
				n /= 4
			} else {
				n *= 6
			}
			dir.Children = append(dir.Children, hfsvol.File(fmt.Sprintf("Localizable strings %03d.nib", k), dmgtest.Random(seed, int64(n)).Bytes()))
			seed++
		}
		contents.Children = append(contents.Children, dir)
	}
	v := hfsvol.Write(hfsvol.Dir("Installer", app), o)
	const first = 64 // sector
	disk := append(make([]byte, first*sectorSize, first*sectorSize+len(v.Image)), v.Image...)
	return dmgtest.Image(t, disk, dmgtest.Options{ChunkSectors: dmgtest.DefaultChunk, Level: 1, Partitions: []dmgtest.Partition{
		{Name: "Driver Descriptor Map (DDM : 0)", First: 0, Sectors: 1},
		{Name: "Apple (Apple_partition_map : 1)", First: 1, Sectors: first - 1},
		{Name: "disk image (Apple_HFS : 2)", First: first},
	}})
}

// What a look into an image costs, far away.
func TestURLRequests(t *testing.T) {
	t.Parallel() // it waits most of the time
	size := 58 << 20
	if dmgtest.Part() {
		size = 8 << 20
	}
	s := newSite(t, map[string][]byte{
		"/Installer.dmg": installer(t, size, hfsvol.Options{CatalogRoom: 128}),
		"/late.dmg":      installer(t, size/2, hfsvol.Options{}),
	})
	const middle = "Foo.app/Contents/Resources 06.lproj/Localizable strings 003.nib"
	for _, tt := range []struct {
		image    string
		args     []string
		requests int
		bytes    int64
		lines    int // of output, at least
	}{
		{"Installer.dmg", []string{"cat", "Foo.app/Contents/Info.plist"}, 6, 400_000, 40},
		{"Installer.dmg", []string{"cat", middle}, 6, 1_500_000, 1}, // the data before it in its chunk comes too
		{"Installer.dmg", []string{"ls", "-R"}, 8, 400_000, 780},
		{"Installer.dmg", []string{"info"}, 8, 400_000, 10},
		// The catalog is in the last chunk, behind data that does not compress.
		{"late.dmg", []string{"cat", "Foo.app/Contents/Info.plist"}, 6, 1_500_000, 40},
		{"late.dmg", []string{"ls", "-R"}, 6, 1_500_000, 780},
	} {
		args := append([]string{tt.args[0], s.URL + "/" + tt.image}, tt.args[1:]...)
		start := time.Now()
		got := dmgRun(t, args...)
		took := time.Since(start)
		requests, n := s.cost()
		t.Logf("%s of %s: %d requests, %d bytes, %v: %q", tt.args, tt.image, len(requests), n, took, requests)
		if got.status != 0 || got.errOut != "" || strings.Count(got.out, "\n") < tt.lines {
			t.Errorf("%s of %s: status %d, %q, %d bytes", tt.args, tt.image, got.status, got.errOut, len(got.out))
		}
		if len(requests) > tt.requests || n > tt.bytes {
			t.Errorf("%s of %s: %d requests and %d bytes, want at most %d and %d", tt.args, tt.image, len(requests), n, tt.requests, tt.bytes)
		}
	}
}

// read returns a file of testdata.
func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(images + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every command takes a URL for an image, and says of it what it says of the file.
func TestURLCommands(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string][]byte{"/good-apfs.dmg": read(t, "good-apfs.dmg"), "/bad-stream.dmg": read(t, "bad-stream.dmg")})
	for _, args := range []string{
		"info FILE", "info --json FILE", "ls -lR FILE", "cat FILE Hello.app/Contents/Info.plist", "cat FILE -n 1000",
		"extract FILE -", "verify FILE", "verify --json FILE", "map FILE", "index FILE -o -",
	} {
		for _, name := range []string{"good-apfs.dmg", "bad-stream.dmg"} {
			words := strings.Fields(args)
			at := slices.Index(words, "FILE")
			words[at] = images + name
			want := dmgRun(t, words...)
			words[at] = s.URL + "/" + name
			got := dmgRun(t, words...)
			got.out = strings.ReplaceAll(got.out, s.URL+"/", images)
			got.errOut = strings.ReplaceAll(got.errOut, s.URL+"/", images)
			if got != want {
				t.Errorf("%s of %s: %+v, want %+v", args, name, got, want)
			}
		}
	}
	if got := dmgRun(t, "cp", s.URL+"/good-apfs.dmg", "Hello.app", t.TempDir()); got != (result{}) {
		t.Errorf("cp: %+v", got)
	}
	if sum(s.files["/good-apfs.dmg"]) == "" || nbdSum(t, s.URL+"/good-apfs.dmg") != sum([]byte(dmgRun(t, "cat", images+"good-apfs.dmg").out)) {
		t.Error("nbd serves something else")
	}
}

// nbdSum returns the SHA-256 of what dmg nbd serves of an image.
func nbdSum(t *testing.T, image string) string {
	t.Helper()
	return nbdcopy(t, serve(t, image, "--listen", "0"))
}

// What servers answer, and what is no server, as users are told.
func TestURLErrors(t *testing.T) {
	t.Parallel()
	image := read(t, "good-zlib.dmg")
	s := newSite(t, map[string][]byte{"/a.dmg": image, "/page": []byte("<html>" + strings.Repeat("no image ", 1000))})
	whole := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(image) }))
	defer whole.Close()
	secret := newSite(t, map[string][]byte{"/a.dmg": image})
	secret.auth = "me:hush@/:"
	with := func(userinfo string) string {
		return strings.Replace(secret.URL, "://", "://"+userinfo+"@", 1) + "/a.dmg"
	}
	for _, tt := range []struct {
		url    string
		status int
		errOut string
	}{
		{s.URL + "/a.dmg", 0, ""},
		{strings.ToUpper(s.URL[:4]) + s.URL[4:] + "/a.dmg?token=x#y", 0, ""},
		{s.URL + "/none.dmg", statusIO, "dmg: URL: 404 Not Found\n"},
		{s.URL + "/page", statusUnsupported, "dmg: URL: file at byte 0: .*HTML page.*\n"},
		{s.URL + "/a.sparsebundle/", statusMisuse, "dmg: URL: a sparse bundle is a folder .*\n"},
		{whole.URL + "/a.dmg", statusIO, "dmg: URL: the server does not serve parts of this file: download it, .*\n"},
		{"http://127.0.0.1:1/a.dmg", statusIO, "dmg: URL: .*refused.*\n"},
		{"http://bad host/a.dmg", statusMisuse, "dmg: URL: not a valid URL: .*\n"},
		{with("me:hush%40%2F:"), 0, ""},
		{with("me:hush"), statusIO, "dmg: http://me:xxxxx@[0-9.:]+/a.dmg: 401 Unauthorized; give name and password in the URL: https://NAME:PASSWORD@HOST/...\n"},
		{with("me:hu%sh"), statusMisuse, "dmg: http://me:xxxxx@[0-9.:]+/a.dmg: not a valid URL: .*\n"},
	} {
		got := dmgRun(t, "info", tt.url)
		want := strings.ReplaceAll(tt.errOut, "dmg: URL", "dmg: "+regexp.QuoteMeta(tt.url))
		if got.status != tt.status || !regexp.MustCompile("^"+want+"$").MatchString(got.errOut) || strings.Contains(got.out+got.errOut, "hush") {
			t.Errorf("%s: %+v, want %d, %q", tt.url, got, tt.status, tt.errOut)
		}
	}
	// Where the command line is wrong, and in flags.
	for _, args := range [][]string{
		{"info", "--nothing", with("me:hush")},
		{"extract", with("me:hush")},
		{"cat", "a.dmg", "--index=" + with("me:hush")},
		{"cat", "a.dmg", "--index", with("me:hush")},
		{with("me:hush")},
	} {
		if got := dmgRun(t, args...); got.status == 0 || strings.Contains(got.errOut, "hush") {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

// A server that begins to fail is no damage of the image.
func TestURLFails(t *testing.T) {
	t.Parallel()
	disk := dmgtest.Image(t, dmgtest.Random(1, 1<<20).Bytes(), dmgtest.Options{ChunkSectors: 128})
	s := newSite(t, map[string][]byte{"/a.dmg": disk, "/Installer.dmg": installer(t, 2<<20, hfsvol.Options{CatalogRoom: 128}), "/late.dmg": installer(t, 2<<20, hfsvol.Options{})})
	s.near = true
	const file = "Foo.app/Contents/Resources 06.lproj/Localizable strings 003.nib"
	for _, tt := range []struct {
		image string
		fail  int // from which request on
		args  []string
	}{
		{"a.dmg", 2, []string{"verify", "URL"}},
		{"a.dmg", 2, []string{"cat", "URL"}},
		{"a.dmg", 2, []string{"extract", "URL", filepath.Join(t.TempDir(), "out")}},
		{"a.dmg", 2, []string{"extract", "--keep-going", "URL", filepath.Join(t.TempDir(), "out")}},
		{"a.dmg", 2, []string{"map", "--verify", "URL"}},
		{"a.dmg", 1, []string{"info", "URL"}},
		{"late.dmg", 2, []string{"ls", "-R", "URL"}},
		{"Installer.dmg", 3, []string{"cat", "URL", file}},
		{"Installer.dmg", 3, []string{"cp", "URL", file, t.TempDir()}},
		{"Installer.dmg", 3, []string{"cp", "--keep-going", "URL", "Foo.app/Contents/Resources 06.lproj", t.TempDir()}},
	} {
		s.cost()
		s.fail = tt.fail
		url := s.URL + "/" + tt.image
		args := slices.Clone(tt.args)
		args[slices.Index(args, "URL")] = url
		got := dmgRun(t, args...)
		first, _, _ := strings.Cut(got.errOut, "\n")
		if got.status != statusIO || !strings.HasSuffix(first, ": 403 Forbidden") || strings.Count(first, url) != 1 {
			t.Errorf("%s of %s: status %d, %q", tt.args, tt.image, got.status, got.errOut)
		}
	}
}

// The other parts of a split image have URLs beside its own.
func TestURLSplit(t *testing.T) {
	t.Parallel()
	files := make(map[string][]byte)
	for _, name := range []string{"split.dmg", "split.002.dmgpart", "split.003.dmgpart"} {
		files["/images/"+name] = read(t, "containers/"+name)
	}
	s := newSite(t, files)
	s.auth = "me:hush"
	base := strings.Replace(s.URL, "://", "://me:hush@", 1) + "/images/"
	want := dmgRun(t, "cat", images+"containers/split.dmg")
	for _, name := range []string{"split.dmg?a=b", "split.002.dmgpart", "split.003.dmgpart"} {
		if got := dmgRun(t, "cat", base+name); got != want || got.out == "" {
			t.Errorf("%s: status %d, %q, %d bytes", name, got.status, got.errOut, len(got.out))
		}
	}
	delete(s.files, "/images/split.003.dmgpart")
	got := dmgRun(t, "info", base+"split.dmg")
	if got.status != statusDamaged || !strings.Contains(got.errOut, "split.003.dmgpart") || strings.Contains(got.errOut, "hush") {
		t.Errorf("without a part: %+v", got)
	}
}

// A server may say of an image that it has any number of parts, and have them all.
func TestURLManyParts(t *testing.T) {
	t.Parallel()
	l, err := dmgtest.Build(dmgtest.Random(1, 512*(maxParts+1)).Bytes(), dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Raw}})
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for i, b := range l.Segments(512) {
		name := "/a.dmg"
		if i > 0 {
			name = fmt.Sprintf("/a.%03d.dmgpart", i+1)
		}
		files[name] = b
	}
	s := newSite(t, files)
	s.near = true
	got := dmgRun(t, "info", s.URL+"/a.dmg")
	if requests, _ := s.cost(); got.status != statusMisuse || !strings.Contains(got.errOut, "split into more than 1000 files") || len(requests) < maxParts || len(requests) > 3*maxParts {
		t.Errorf("%d requests, %d, %q", len(requests), got.status, got.errOut)
	}
}

// useCache gives the test a cache folder of its own, and returns it.
func useCache(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} {
		t.Setenv(name, dir)
	}
	return dir
}

// An index is used that dmg index left in the cache folder, as long as the file on the
// server is the same, or one beside the URL.
func TestURLIndex(t *testing.T) {
	dmgtest.Long(t)
	cache := useCache(t)
	image := dmgtest.Image(t, dmgtest.Random(1, 4<<20+64<<10).Bytes(), dmgtest.Options{})
	file := filepath.Join(t.TempDir(), "a.dmg")
	if err := os.WriteFile(file, image, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := dmgRun(t, "index", file); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	index, err := os.ReadFile(file + indexExt)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, map[string][]byte{"/a.dmg": image})
	args := []string{"cat", "-v", s.URL + "/a.dmg", "-o", "4M", "-n", "4k"}
	want := dmgRun(t, "cat", file, "-o", "4M", "-n", "4k").out
	cat := func(what, used string, most int64, more ...string) {
		t.Helper()
		s.cost()
		got := dmgRun(t, append(args, more...)...)
		if _, n := s.cost(); got.status != 0 || got.out != want || n > most {
			t.Errorf("%s: status %d, %q, %d bytes, %d fetched", what, got.status, got.errOut, len(got.out), n)
		}
		if used == "" && strings.Contains(got.errOut, "index") || !strings.Contains(got.errOut, used) {
			t.Errorf("%s: %q, want %q", what, got.errOut, used)
		}
	}
	cat("no index", "", 6<<20)
	s.files["/a.dmg"+indexExt] = index
	cat("an index beside it", "using the index "+s.URL+"/a.dmg"+indexExt, 1<<20)
	cat("an index that is not wanted", "", 6<<20, "--no-index")
	cat("a file", "using the index "+file, 200_000, "--index", file+indexExt)
	s.files["/other"] = index
	cat("another URL", "using the index "+s.URL+"/other", 1<<20, "--index", s.URL+"/other")
	s.files["/a.dmg"+indexExt] = read(t, "good-zlib.dmg")
	cat("no index beside it", "a.dmg.dmgidx: not a valid index", 6<<20)
	delete(s.files, "/a.dmg"+indexExt)

	for range 2 { // it replaces its own
		got := dmgRun(t, "index", s.URL+"/a.dmg")
		if got.status != 0 || got.errOut != "" || !strings.HasPrefix(got.out, cache) {
			t.Fatalf("index: %+v", got)
		}
	}
	cat("a cached index", "using the index "+cache, 200_000)
	s.etag = `"2"`
	cat("a new version", "", 6<<20)
	if got := dmgRun(t, "index", s.URL+"/a.dmg"); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	cat("an index of the new version", "using the index "+cache, 200_000)
	var names []string
	err = filepath.WalkDir(cache, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil || len(names) != 1 {
		t.Errorf("in the cache are %q, %v; want one", names, err)
	}
	if info, err := os.Stat(names[0]); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// Whatever is kept or read ahead, reads return what is in the file.
func TestWebReader(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{1, 1000, tailLen, tailLen + 1, 1 << 20} {
		file := dmgtest.Random(1, size).Bytes()
		s := newSite(t, map[string][]byte{"/a": file})
		s.near = true
		w, _ := newWeb(nil)
		defer w.close()
		f, err := w.file(s.URL + "/a")
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, uint64(size)))
		off := int64(0)
		for range 300 {
			switch rng.IntN(3) { // or it goes on
			case 0:
				off = rng.Int64N(size + 10)
			case 1:
				off = max(0, size-tailLen)
			}
			p := make([]byte, []int{1, 100, 4096, tailLen, shortRead, shortRead + 1, aheadLen}[rng.IntN(7)])
			n, err := f.ReadAt(p, off)
			want := max(0, min(int64(len(p)), size-off))
			if int64(n) != want || !bytes.Equal(p[:n], file[min(off, size):][:n]) || (err == io.EOF) != (n < len(p)) || err != nil && err != io.EOF {
				t.Fatalf("%d bytes at %d of %d: %d, %v, want %d", len(p), off, size, n, err, want)
			}
			off += int64(n)
		}
	}
}
