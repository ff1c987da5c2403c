package main

import (
	"fmt"
	"math"
	"testing"
)

// What those see who lack one kind of cones, in linear RGB: G. M. Machado et al.,
// "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009.
var visions = map[string][3][3]float64{
	"normal": {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
	"red":    {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}},
	"green":  {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}},
	"blue":   {{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}},
}

// labOf is a color as the eye judges differences: CIE L*a*b*, for D65.
func labOf(t *testing.T, color string, vision [3][3]float64) (lab [3]float64) {
	var rgb [3]uint8
	if _, err := fmt.Sscanf(color, "#%02x%02x%02x", &rgb[0], &rgb[1], &rgb[2]); err != nil {
		t.Fatalf("%q: %v", color, err)
	}
	var linear, seen [3]float64
	for i, v := range rgb {
		if linear[i] = float64(v) / 255; linear[i] <= 0.04045 {
			linear[i] /= 12.92
		} else {
			linear[i] = math.Pow((linear[i]+0.055)/1.055, 2.4)
		}
	}
	for i, row := range vision {
		seen[i] = max(0, min(row[0]*linear[0]+row[1]*linear[1]+row[2]*linear[2], 1))
	}
	var f [3]float64
	for i, row := range [3][3]float64{{0.4124, 0.3576, 0.1805}, {0.2126, 0.7152, 0.0722}, {0.0193, 0.1192, 0.9505}} {
		v := (row[0]*seen[0] + row[1]*seen[1] + row[2]*seen[2]) / [3]float64{0.9505, 1, 1.089}[i]
		if f[i] = 7.787*v + 16.0/116; v > 0.008856 {
			f[i] = math.Cbrt(v)
		}
	}
	return [3]float64{116*f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])}
}

// Whoever looks can tell any two methods apart, in whatever shades, and any two
// shades of a method.
func TestPalette(t *testing.T) {
	const apart = 10 // 2 is a difference that one can see, side by side
	type color struct {
		name string
		look look
		hex  string
	}
	var colors []color
	for l := zero; l < unsupported; l++ {
		for i, hex := range palette[l] {
			if hex != "" && (l != raw || i == 0) {
				colors = append(colors, color{fmt.Sprint(lookNames[l], i), l, hex})
			}
		}
	}
	for name, vision := range visions {
		least, pair := math.Inf(1), ""
		for i, a := range colors {
			for _, b := range colors[:i] {
				x, y := labOf(t, a.hex, vision), labOf(t, b.hex, vision)
				if d := math.Hypot(math.Hypot(x[0]-y[0], x[1]-y[1]), x[2]-y[2]); d < least {
					least, pair = d, a.name+" and "+b.name
				}
			}
		}
		t.Logf("%s: %s are %.1f apart", name, pair, least)
		if least < apart {
			t.Errorf("%s: %s are %.1f apart", name, pair, least)
		}
	}
}
