package apfs_test

import (
	"fmt"
	"io/fs"
	"log"

	"github.com/go-dmg/dmg/apfs"
	"github.com/go-dmg/dmg/internal/apfstest"
)

// exampleDisk is a container of two volumes, as an [io.ReaderAt].
func exampleDisk() *apfstest.Disk {
	return (&apfstest.Container{Volumes: []*apfstest.Volume{
		{Name: "Macintosh HD", Role: 1, Root: []*apfstest.File{apfstest.Dir("System", apfstest.Text("version", "15.0\n"))}},
		{Name: "Data", Role: 1 << 6, Root: []*apfstest.File{apfstest.Dir("Users")},
			Snapshots: []apfstest.Snapshot{{Name: "before", XID: 9, Root: []*apfstest.File{apfstest.Text("gone", "still here")}}}},
	}}).Write()
}

func Example() {
	disk := exampleDisk() // any io.ReaderAt
	c, err := apfs.New(disk, disk.Size, nil)
	if err != nil {
		log.Fatal(err)
	}
	volumes, err := c.Volumes()
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range volumes {
		fmt.Printf("%s (%s)\n", v.Name, v.Role)
	}
	fsys, err := volumes[0].FS()
	if err != nil {
		log.Fatal(err)
	}
	text, err := fs.ReadFile(fsys, "System/version")
	fmt.Printf("%s%v\n", text, err)
	// Output:
	// Macintosh HD (system)
	// Data (data)
	// 15.0
	// <nil>
}

func ExampleVolume_Snapshots() {
	disk := exampleDisk()
	c, err := apfs.New(disk, disk.Size, nil)
	if err != nil {
		log.Fatal(err)
	}
	volumes, err := c.Volumes()
	if err != nil {
		log.Fatal(err)
	}
	snapshots, err := volumes[1].Snapshots()
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range snapshots {
		fsys, err := s.FS()
		if err != nil {
			log.Fatal(err)
		}
		text, err := fs.ReadFile(fsys, "gone")
		fmt.Printf("%s: %s, %v\n", s.Name, text, err)
	}
	// Output: before: still here, <nil>
}
