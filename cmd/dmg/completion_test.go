package main

import (
	"os/exec"
	"strings"
	"testing"
)

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			got := dmgRun(t, "completion", shell)
			if got.status != 0 || got.errOut != "" {
				t.Fatalf("status %d, %q", got.status, got.errOut)
			}
			golden(t, "completion."+shell, got.out)
			if _, err := exec.LookPath(shell); err != nil {
				t.Skip(err)
			}
			cmd := exec.Command(shell, "-n")
			cmd.Stdin = strings.NewReader(got.out)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func TestBashCompletes(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip(err)
	}
	script := dmgRun(t, "completion", "bash").out
	for _, tt := range []struct{ words, want string }{
		{"'dmg' 'e'", "extract"},
		{"'dmg' 'ind'", "index"},
		{"'dmg' 'cat' '--no'", "--no-index"},
		{"'dmg' 'inf'", "info"},
		{"'dmg' '--v'", "--version"},
		{"'dmg' 'extract' '--kee'", "--keep-going"},
		{"'dmg' 'm'", "map"},
		{"'dmg' 'map' 'x.dmg' '--ver'", "--version --verify --verbose"},
		{"'dmg' 'completion' ''", "bash zsh fish"},
		{"'dmg' 'info' ''", ""}, // files
		{"'dmg' 'nbd' 'x.dmg' '--so'", "--socket"},
	} {
		cmd := exec.Command("bash", "--norc")
		cmd.Stdin = strings.NewReader(script + "COMP_WORDS=(" + tt.words + "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _dmg; echo \"${COMPREPLY[@]}\"\n")
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSuffix(string(out), "\n"); err != nil || got != tt.want {
			t.Errorf("%s: %q, want %q (%v)", tt.words, got, tt.want, err)
		}
	}
}
