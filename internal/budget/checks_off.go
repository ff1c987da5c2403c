//go:build !dmgcheck

package budget

// Checks says that invariants are checked at run time: with the build tag dmgcheck.
const Checks = false
