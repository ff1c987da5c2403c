package apfs

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/unicode/rangetable"

	"github.com/go-dmg/dmg/internal/apfstest"
	"github.com/go-dmg/dmg/internal/vfs"
)

// The table of foldings is that of another implementation, for all characters of the
// version that it is of; but for Cherokee, whose capital letters fold to themselves in
// CaseFolding.txt, since they came first.
func TestFold(t *testing.T) {
	folder := cases.Fold()
	known := rangetable.Assigned("15.0.0")
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) || !unicode.Is(known, r) {
			continue
		}
		want := folder.String(string(r))
		if '\u13A0' <= r && r <= '\u13F5' {
			want = string(r)
		}
		if got := string(appendFold(nil, r)); got != want {
			t.Errorf("%U folds to %+q, want %+q", r, got, want)
		}
	}
	last := rune(0)
	for _, run := range foldRuns {
		if run.lo <= last || run.hi < run.lo || (run.hi-run.lo)%run.stride != 0 {
			t.Errorf("run %+v behind %U", run, last)
		}
		last = run.hi
	}
}

// What a name's form is must not depend on the version of Unicode for names that an older
// version has: macOS 10.13 had Unicode 9.0.
func TestFormsAreStable(t *testing.T) {
	old := rangetable.Assigned("9.0.0")
	nm := naming{hashed: true, fold: true}
	for r := rune(0x80); r <= unicode.MaxRune; r++ {
		if !unicode.Is(old, r) || !utf8.ValidRune(r) {
			continue
		}
		for _, c := range nm.canonical(string(r)) {
			if !unicode.Is(old, c) {
				t.Errorf("%U of Unicode 9.0 becomes %U, which is newer", r, c)
			}
		}
	}
}

// Hashes that macOS wrote.
func TestHash(t *testing.T) {
	for name, want := range map[string]uint32{"root": 0x2D9C79, "private-dir": 0x2B29A3, ".fseventsd": 0x272F85} {
		if got := hash(name); got != want {
			t.Errorf("%s: %#x, want %#x", name, got, want)
		}
	}
}

// FuzzNames compares forms and hashes with another implementation; and names that are
// given out with the stored ones that they stand for.
func FuzzNames(f *testing.F) {
	for _, s := range []string{
		"", ".", "..", "plain", "UPPER", "%u0041", "%u", "a/b", "a\\b", "nul\x00", "\xff", "cafe\u0301", "\u1e9b\u0323", "\ufb03", "a\u0345\u0301",
		"\u0130", "\uac00\u11a8", "\u03a3", "\U00010400", "\xed\xa0\x80", "%u00E9",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 2000 {
			return
		}
		for _, nm := range []naming{{}, {hashed: true}, {hashed: true, fold: true}} {
			c := nm.canonical(s)
			// Two passes may be needed where a folding is not in order: see U+0345.
			if again := nm.canonical(c); utf8.ValidString(s) && nm.canonical(again) != again {
				t.Errorf("%+v: %+q: the form %+q of a form becomes %+q", nm, s, again, nm.canonical(again))
			}
			// Characters of versions that the tables don't agree on are not compared.
			if nm.hashed && utf8.ValidString(s) && hash(c) != apfstest.NameHash(s, nm.fold) {
				t.Errorf("%+v: hash of %+q is %#x, want %#x", nm, s, hash(c), apfstest.NameHash(s, nm.fold))
			}
			given := nm.given(s)
			if !vfs.IsPlain(given) && !strings.Contains(given, "%u") || !utf8.ValidString(given) || strings.ContainsAny(given, "/\\\x00") || given == "." || given == ".." || given == "" {
				t.Errorf("%+v: %+q is given out as %+q", nm, s, given)
			}
			back := stored(given)
			want := s
			if nm.hashed {
				want = norm.NFC.String(s)
			}
			if back != want || nm.canonical(back) != c && utf8.ValidString(s) {
				t.Errorf("%+v: %+q is given out as %+q, which stands for %+q", nm, s, given, back)
			}
		}
	})
}
