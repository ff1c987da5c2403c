//go:build !dmgcheck

package budget

// Checks says that invariants are checked at run time: with the build tag dmgcheck. Then
// what is done on several cores only where much is to be done is done nearly always.
const Checks = Checked == 1

// Checked is 1 if Checks is set, for constants, and else 0.
const Checked = 0
