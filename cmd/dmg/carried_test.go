package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// carryingImage is a signed image with a license agreement in two languages and one that isn't
// known.
func carryingImage(t *testing.T) []byte {
	img := dmgtest.Image(t, dmgtest.Text(1, 100_000).Bytes(), dmgtest.Options{Extra: []dmgtest.Resource{
		{Type: "LPic", ID: 5000, Data: []byte("\x00\x03\x00\x03" + "\x00\x03\x00\x00\x00\x00" + "\x00\x0E\x00\x01\x00\x01" + "\x7F\x00\x00\x02\x00\x00")},
		{Type: "TEXT", ID: 5000, Data: []byte("F\x9fr Sie\r\x1b[1mzwei")},
		{Type: "TEXT", ID: 5001, Data: []byte("\x93\xfa\x96\x7b\r")},
		{Type: "TEXT", ID: 5002, Data: []byte("else")},
	}})
	s := dmgtest.Signing{Identifier: "com.example.\u202einstaller", TeamID: "ABCDE12345", Ticket: []byte("ticket"), Time: time.Unix(1.7e9, 0),
		Signer: dmgtest.NewSigner("Developer ID Application: Example (ABCDE12345)", "ABCDE12345")}
	return s.Image(img)
}

func TestInfoCarried(t *testing.T) {
	dir := t.TempDir()
	signed, changed := filepath.Join(dir, "signed.dmg"), filepath.Join(dir, "changed.dmg")
	img := carryingImage(t)
	bad := append([]byte{}, img...)
	bad[2000] ^= 1
	for name, b := range map[string][]byte{signed: img, changed: bad} {
		if err := os.WriteFile(name, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	plain := images + "good-zlib.dmg"
	const licenses = "--- de (default) ---\nFür Sie\n\\x1b[1mzwei\n\n--- ja ---\n日本\n\n--- region 32512 ---\nelse\n"
	for _, tt := range []struct {
		args   []string
		out    []string // in it
		status int
		errOut string
	}{
		{[]string{"info", signed}, []string{"\nlicense agreement: de (default), ja, region 32512; --license prints it\n",
			"\nsignature: com.example.\\u202einstaller, team ABCDE12345, 2023-11-14T22:13:20Z, with a notarization ticket\n    certificates, of which none was checked: Developer ID Application: Example (ABCDE12345); Root of Developer ID"}, 0, ""},
		{[]string{"info", "--license", signed}, []string{licenses}, 0, ""},
		{[]string{"info", "--license", plain}, nil, statusMisuse, "dmg: " + plain + ": it has no license agreement\n"},
		{[]string{"info", "--signature", signed}, []string{"\n    the image's bytes are those that were signed\n"}, 0, ""},
		{[]string{"info", "--signature", changed}, []string{"\n    NOT what was signed: code signature's page 0: SHA-256 is "}, statusDamaged, "dmg: " + changed + ": its code signature does not match: checksum mismatch\n"},
		{[]string{"info", "--signature", plain}, []string{"good-zlib.dmg: UDZO"}, statusDamaged, "dmg: " + plain + ": it has no code signature\n"},
	} {
		got := dmgRun(t, tt.args...)
		if got.status != tt.status || got.errOut != tt.errOut {
			t.Errorf("%v: %d, %q", tt.args, got.status, got.errOut)
		}
		for _, want := range tt.out {
			if !strings.Contains(got.out, want) {
				t.Errorf("%v: %q, want %q", tt.args, got.out, want)
			}
		}
	}
	got := dmgRun(t, "info", "--json", "--signature", "--license", signed, changed, plain)
	var infos []imageInfo
	for line := range strings.Lines(got.out) {
		var i imageInfo
		if err := json.Unmarshal([]byte(line), &i); err != nil {
			t.Fatal(err)
		}
		infos = append(infos, i)
	}
	if len(infos) != 3 || got.status != statusDamaged {
		t.Fatalf("%d, %s%s", got.status, got.out, got.errOut)
	}
	s := infos[0].Signature
	if s == nil || s.Identifier != "com.example.\u202einstaller" || s.Team != "ABCDE12345" || len(s.CDHash) != 20 || len(s.Certificates) != 2 || !s.Ticket || s.Matches == nil || !*s.Matches || s.Error != "" {
		t.Errorf("%+v", s)
	}
	if l := infos[0].Licenses; len(l) != 3 || l[1].Language != "ja" || l[1].Text == nil || *l[1].Text != "日本\n" || !l[0].Default {
		t.Errorf("%+v", l)
	}
	if tr := infos[0].Trailer; tr == nil || tr.Flags != 1 || tr.Segments != 1 || len(tr.SegmentID) != 32 {
		t.Errorf("%+v", tr)
	}
	if sums := infos[0].Checksums; len(sums) != 3 || sums[0].Part != "data fork" || len(sums[0].Stored) != 4 {
		t.Errorf("%+v", sums)
	}
	if s := infos[1].Signature; s == nil || s.Matches == nil || *s.Matches || s.Error == "" {
		t.Errorf("%+v", s)
	}
	if infos[2].Signature != nil {
		t.Errorf("%+v", infos[2].Signature)
	}
}
