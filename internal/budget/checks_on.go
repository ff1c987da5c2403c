//go:build dmgcheck

package budget

// Checks says that invariants are checked at run time.
const Checks = Checked == 1

// Checked is 1 if Checks is set, for constants, and else 0.
const Checked = 1
