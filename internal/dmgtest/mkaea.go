package dmgtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// mkaeaCall runs an encoder of mkaea.py, which needs a cryptography package for what it
// does else.
const mkaeaCall = `
import sys
from unittest.mock import MagicMock
name = 'cryptography.hazmat.primitives'
for part in ('', '.asymmetric', '.ciphers', '.ciphers.aead'):
    sys.modules[name + part] = MagicMock()
sys.modules['cryptography'] = sys.modules['cryptography.hazmat'] = MagicMock()
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
import mkaea
sys.stdout.buffer.write(getattr(mkaea, sys.argv[2])(sys.stdin.buffer.read()))
`

// MkaeaEncode encodes p with a function of mkaea.py: an encoder in Python, which shares no
// code with this project. It skips the test where there is none.
func MkaeaEncode(tb testing.TB, tools, function string, p []byte) []byte {
	tb.Helper()
	if _, err := os.Stat(filepath.Join(tools, "mkaea.py")); err != nil {
		tb.Skip("no second writer: ", err)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		tb.Skip("no Python: ", err)
	}
	cmd := exec.Command(python, "-c", mkaeaCall, tools, function)
	cmd.Stdin = bytes.NewReader(p)
	b, err := cmd.Output()
	if exit, ok := err.(*exec.ExitError); ok {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b
}
