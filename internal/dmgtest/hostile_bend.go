package dmgtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
)

// numbers are those at which arithmetic of a width breaks: the ends of signed
// and unsigned types, those of sectors whose bytes no longer fit (2^54, 2^55),
// and the neighbours of the right one.
func numbers(width int, right uint64) []uint64 {
	top := uint64(1)<<(width*8-1)<<1 - 1
	all := []uint64{0, 1, top>>1 - 1, top >> 1, top>>1 + 1, top - 1, top, right - 1, right + 1, right * 2}
	if width == 8 {
		all = append(all, 1<<31, 1<<32-1, 1<<32, 1<<54-1, 1<<54, 1<<55, -right)
	}
	for i := range all {
		all[i] &= top
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(v uint64) bool { return v == right })
}

// fields calls f for each number in the struct that v points to, and puts back
// what it was. Of byte arrays the first and the last are numbers.
func fields(v any, f func(name string, field reflect.Value)) {
	var walk func(name string, v reflect.Value)
	walk = func(name string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				walk(name+"."+v.Type().Field(i).Name, v.Field(i))
			}
		case reflect.Array:
			walk(name+".0", v.Index(0))
			walk(fmt.Sprintf("%s.%d", name, v.Len()-1), v.Index(v.Len()-1))
		default:
			f(name[1:], v)
		}
	}
	walk("", reflect.ValueOf(v).Elem())
}

// bend calls give with each number of the struct that v points to bent in turn.
func bend(v any, give func(what string)) {
	fields(v, func(name string, field reflect.Value) {
		right := field.Uint()
		for _, n := range numbers(int(field.Type().Size()), right) {
			field.SetUint(n)
			give(fmt.Sprintf("%s=%#x", name, n))
		}
		field.SetUint(right)
	})
}

// bendWord calls give with copies of image in which the big-endian number of
// some bytes at an offset is bent.
func bendWord(image []byte, at, width int, give func(image []byte, n uint64)) {
	w := word{at, width, false}
	for _, n := range numbers(width, w.of(image)) {
		give(w.put(image, n), n)
	}
}

// A word is a number in an image: where it is, how many bytes it has, and whether
// the lowest comes first.
type word struct {
	at, width int
	little    bool
}

func (w word) of(image []byte) uint64 {
	var b [8]byte
	copy(b[8-w.width:], image[w.at:w.at+w.width])
	if w.little {
		slices.Reverse(b[8-w.width:])
	}
	return binary.BigEndian.Uint64(b[:])
}

// put returns a copy of the image in which the number is n.
func (w word) put(image []byte, n uint64) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	if w.little {
		slices.Reverse(b[8-w.width:])
	}
	image = bytes.Clone(image)
	copy(image[w.at:], b[8-w.width:])
	return image
}

// bendPair calls give with copies of image in which two numbers are bent whose
// sum or product a reader forms.
func bendPair(image []byte, x, y word, give func(image []byte, what string)) {
	for _, p := range wrapping(min(x.width, y.width), x.of(image), y.of(image)) {
		give(y.put(x.put(image, p[0]), p[1]), fmt.Sprintf("%#x=%#x, %#x=%#x", x.at, p[0], y.at, p[1]))
	}
}

// wrapping are pairs of numbers of a width whose sum wraps, or wraps around to
// that of the right ones, x and y.
func wrapping(width int, x, y uint64) [][2]uint64 {
	top := uint64(1)<<(width*8-1)<<1 - 1
	half := top >> 1
	all := [][2]uint64{
		{top, 1}, {1, top}, {top, top}, {half + 1, half + 1}, {half, 1}, {1, half}, {half, half},
		{top - y + 1, y}, {x, top - x + 1}, {top - y + 2, y},
		{x + 5, y - x - 5 + x}, {x - (half + 1), y + half + 1}, {x - 512, y + 512},
	}
	if width == 8 { // sectors whose bytes wrap
		all = append(all, [][2]uint64{{1 << 55, y}, {x, 1 << 55}, {1<<54 - 1, 1}, {1 << 54, 1 << 54}, {1 << 55, 1 << 55}, {x + 1<<55, y - 1<<55}}...)
	}
	for i := range all {
		all[i][0] &= top
		all[i][1] &= top
	}
	return all
}
