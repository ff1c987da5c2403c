//go:build race

package lzfse

const raceEnabled = true
