package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// packages are the Debian packages of the programs measured, whose versions the
// report names.
var packages = []string{
	"7zip", "bzip2", "dmg2img", "isal", "lbzip2", "libdeflate-tools", "pigz", "python3-indexed-gzip", "qemu-utils", "zlib1g",
}

// machine describes where the figures come from.
func machine() []string {
	lines := []string{
		fmt.Sprintf("%s%s, %d cores, memory %s; load average before the run %s", procField("/proc/cpuinfo", "model name"), virtual(),
			runtime.NumCPU(), procField("/proc/meminfo", "MemTotal"), strings.Join(strings.Fields(firstLine("/proc/loadavg"))[:3], ", ")),
		"Linux " + firstLine("/proc/sys/kernel/osrelease") + ", " + osName() + ", " + runtime.Version() + " " + runtime.GOARCH,
	}
	var versions []string
	for _, p := range packages {
		if v, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", p).Output(); err == nil && len(v) > 0 {
			versions = append(versions, p+" "+string(v))
		}
	}
	return append(lines, strings.Join(versions, ", "))
}

// virtual says that the processor is one of a virtual machine, if it is: it may
// be shared with others then.
func virtual() string {
	if slices.Contains(strings.Fields(procField("/proc/cpuinfo", "flags")), "hypervisor") {
		return " (virtual machine)"
	}
	return ""
}

// procField returns the first value of that name in a file of "name: value"
// lines.
func procField(file, name string) string {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown " + name
}

func firstLine(file string) string {
	text, _ := os.ReadFile(file)
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

func osName() string {
	text, _ := os.ReadFile("/etc/os-release")
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return runtime.GOOS
}

// allowedCPUs lists the processors that this process may run on.
func allowedCPUs() ([]string, error) {
	var cpus []string
	for part := range strings.SplitSeq(procField("/proc/self/status", "Cpus_allowed_list"), ",") {
		lo, hi, isRange := strings.Cut(part, "-")
		if !isRange {
			hi = lo
		}
		first, err := strconv.Atoi(lo)
		last, err2 := strconv.Atoi(hi)
		if err := errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("allowed processors: %w", err)
		}
		for cpu := first; cpu <= last; cpu++ {
			cpus = append(cpus, strconv.Itoa(cpu))
		}
	}
	return cpus, nil
}

// sumFile is the SHA-256 of a file in hexadecimal.
func sumFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, 256<<10))
	return hex.EncodeToString(h.Sum(nil)), err
}
