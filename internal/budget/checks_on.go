//go:build dmgcheck

package budget

// Checks says that invariants are checked at run time.
const Checks = true
