package main

import (
	"archive/zip"
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/apfstest"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// latency is what each request takes beside the transfer.
const latency = 20 * time.Millisecond

// restoreImage makes a restore image with a disk of about size bytes, and returns a file on
// it of so many bytes.
func restoreImage(t *testing.T, size, fileSize int64, segment int) (ipsw, file []byte) {
	t.Helper()
	file = dmgtest.Mixed(1, fileSize).Bytes()
	filler := &apfstest.File{Name: "filler", Data: dmgtest.Mixed(2, size/2).Bytes()}
	more := &apfstest.File{Name: "more", Data: dmgtest.Mixed(3, size/2).Bytes()}
	var system []*apfstest.File
	for i := range 300 {
		system = append(system, apfstest.Text(fmt.Sprintf("file %d", i), "text"))
	}
	wanted := &apfstest.File{Name: "dyld", Data: file}
	c := apfstest.Container{Volumes: []*apfstest.Volume{
		{Name: "System", Role: 1, Root: []*apfstest.File{apfstest.Dir("System", system...), filler, apfstest.Dir("usr", apfstest.Dir("lib", wanted)), more}},
		{Name: "Preboot", Role: 16, Root: []*apfstest.File{apfstest.Text("boot", "x")}},
	}}
	disk := c.Write()
	a := dmgtest.Archive{Segment: segment, Codec: 'z'}
	recipient := dmgtest.ArchivePrivateKey(1).PublicKey()
	a.Auth = dmgtest.ArchiveWrap(recipient, dmgtest.ArchiveKey, "https://keys.example/abc")
	image := a.Image(disk, disk.Size)

	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, entry := range []struct {
		name   string
		method uint16
		data   []byte
	}{{"BuildManifest.plist", zip.Deflate, dmgtest.Text(4, 10_000).Bytes()}, {"044-1.dmg.aea", zip.Store, image}, {"Restore.plist", zip.Deflate, []byte("x")}} {
		w, err := z.CreateHeader(&zip.FileHeader{Name: entry.name, Method: entry.method})
		if err == nil {
			_, err = w.Write(entry.data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		if w, err := z.Create(fmt.Sprintf("Firmware/all_flash/some-firmware-%d.im4p", i)); err == nil {
			fmt.Fprintln(w, i)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), file
}

// TestFirmware reads a file out of a restore image on a web server, in few requests.
func TestFirmware(t *testing.T) {
	size, fileSize, segment := int64(24<<20), int64(300_000), 128<<10
	mostRequests, mostBytes := 25, int64(800_000)
	if dmgtest.All() && !dmgtest.Slowed() {
		size, fileSize, segment = 900<<20, 3_000_000, 1<<20
		mostBytes = 5_000_000
	}
	ipsw, want := restoreImage(t, size, fileSize, segment)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		time.Sleep(latency)
		http.ServeContent(w, req, "restore.ipsw", time.Unix(1_700_000_000, 0), bytes.NewReader(ipsw))
	}))
	defer server.Close()

	key := filepath.Join(t.TempDir(), "key")
	write := func(b []byte) {
		if err := os.WriteFile(key, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(dmgtest.ArchivePrivateKey(1))
	if err != nil {
		t.Fatal(err)
	}
	write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	var out, said bytes.Buffer
	begun := time.Now()
	if err := run([]string{"-key", key, "-volume", "System", server.URL, "/usr/lib/dyld"}, &out, &said); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("%d other bytes, want %d", out.Len(), len(want))
	}
	var requests int
	var traffic int64
	if _, err := fmt.Sscanf(said.String(), "%d requests, %d bytes", &requests, &traffic); err != nil || requests > mostRequests || traffic > mostBytes {
		t.Errorf("%q, want %d and %d at most; %v", said.String(), mostRequests, mostBytes, err)
	}
	t.Logf("a file of %d bytes out of %d: %v in %v", len(want), len(ipsw), strings.TrimSpace(said.String()), time.Since(begun).Round(time.Millisecond))

	out.Reset()
	write([]byte(base64.StdEncoding.EncodeToString(dmgtest.ArchiveKey)))
	if err := run([]string{"-key", key, "-volume", "System", server.URL}, &out, io.Discard); err != nil || out.String() != "System\nfiller\nmore\nusr\n" {
		t.Errorf("the root folder: %q, %v", out.String(), err)
	}
	err = run([]string{server.URL}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), `Apple serves at "https://keys.example/abc"`) {
		t.Errorf("without a key: %v", err)
	}
	if err := run([]string{"-disk", "Restore.plist", server.URL}, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "is compressed") {
		t.Errorf("another file: %v", err)
	}
}
