package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Colors, light where little is stored to dark. They were searched for, so that
// people who don't see red, green or blue can tell those of different methods apart
// too: see TestPalette. Red is for damage alone, and that is hatched.
var palette = [numLooks][numShades]string{
	ignore:      {"#dfe3e6"},
	zero:        {"#dfe3e6"},
	raw:         {"#707b85", "#707b85", "#707b85", "#707b85"}, // of one size always
	adc:         {"#eadc94", "#b3ab6a", "#7c7b41", "#454a17"},
	zlib:        {"#a6baff", "#788cd5", "#495fab", "#1b3181"},
	bzip2:       {"#ffc633", "#d9a029", "#b27a1f", "#8c5415"},
	lzfse:       {"#79f1b6", "#59bf8e", "#3a8e67", "#1a5c3f"},
	lzma:        {"#f1beef", "#b481b5", "#78437b", "#3b0641"},
	unsupported: {"url(#unsupported)", "url(#unsupported)", "url(#unsupported)", "url(#unsupported)"},
}

var lookNames = [numLooks]string{
	hole: "in no table", ignore: "ignore", zero: "zero", raw: "raw", adc: "ADC", zlib: "zlib",
	bzip2: "bzip2", lzfse: "LZFSE", lzma: "LZMA", unsupported: "unsupported",
}

// paint is what a look is drawn in.
func paint(l look, shade int) string {
	if l == ignore {
		return "url(#ignore)"
	}
	if !l.stored() {
		shade = 0
	}
	return palette[l][shade]
}

// Where things are on the page, in pixels. The grid is in the middle, offsets are
// to its left, partitions to its right, and the legend is below.
const (
	pageWidth   = 1136
	gridLeft    = 92
	gridRight   = gridLeft + gridWidth
	gridTop     = 92
	labelLeft   = gridRight + 36
	legendTop   = 52 // below the grid
	legendLine  = 22
	swatchWidth = 24
)

const style = `text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;font-size:12px;fill:#1f2933;` +
	`font-variant-numeric:tabular-nums}` +
	`.h{font-size:20px;font-weight:600}.s{font-size:13px;fill:#52606d}.m{font-size:11px;fill:#52606d}.k{font-size:9px;fill:#52606d}` +
	`.e{text-anchor:end}.c{text-anchor:middle}.b{font-weight:600}.r{fill:#b00020}.g{fill:#1a5c3f}` +
	`.l{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:11px}`

const patterns = `<pattern id="ignore" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">` +
	`<path d="M0 0h4v4h-4z" fill="#f4f6f7"/><path d="M0 0h1.4v4h-1.4z" fill="#cdd4d9"/></pattern>` +
	`<pattern id="unsupported" width="4" height="4" patternUnits="userSpaceOnUse">` +
	`<path d="M0 0h4v4h-4z" fill="#1f2933"/><path d="M1 1h2v2h-2z" fill="#fff"/></pattern>` +
	`<pattern id="damage" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">` +
	`<path d="M0 0h4v4h-4z" fill="#fff"/><path d="M0 0h2.4v4h-2.4z" fill="#d0021b"/></pattern>`

// A drawing is an SVG document that is being written.
type drawing struct{ bytes.Buffer }

// add adds markup. Text of the image's or the user's must go through text.
func (d *drawing) add(format string, args ...any) { fmt.Fprintf(d, format, args...) }

// text draws a line of text, whatever is in it.
func (d *drawing) text(x, y int, class, s string) {
	d.add(`<text x="%d" y="%d" class="%s">%s</text>`+"\n", x, y, class, escaped(s))
}

// escaped is s for use as text in XML.
func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(printable(s))) // a Builder takes everything
	return b.String()
}

// shortened is s with an ellipsis for what takes more room than n letters.
func shortened(s string, n int) string {
	s = printable(s)
	end := 0 // of what leaves room for an ellipsis
	for i, r := range s {
		n--
		if r >= '\u1100' { // the first letters that are twice as wide
			n--
		}
		if n < 0 {
			return strings.TrimRight(s[:end], " ") + "…"
		}
		if n > 0 {
			end = i + utf8.RuneLen(r)
		}
	}
	return s
}

// badge draws the mark of damage.
func (d *drawing) badge(x, y, side int) {
	d.add(`<path d="M%d %dh%dv%[3]dh-%[3]dz" fill="url(#damage)" stroke="#d0021b" stroke-width="1.4"/>`+"\n", x, y, side)
}

// svg draws the picture. How many elements it has depends on the number of looks,
// not of chunks or cells, because all cells of a look are one path.
func (m *diskMap) svg() []byte {
	var body drawing
	m.drawTitle(&body)
	m.drawOffsets(&body)
	m.drawCells(&body)
	labels := m.drawPartitions(&body)
	bottom := max(m.drawLegend(&body, gridTop+m.grid.height()+legendTop), gridTop+labels)
	if m.found != nil && m.found.any() {
		bottom = m.drawDamage(&body, bottom+legendLine)
	}
	var d drawing
	d.add(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%d" role="img">`+"\n", pageWidth, bottom+24)
	d.add("<title>Map of %s</title>\n<style>%s</style>\n<defs>%s</defs>\n", escaped(shortened(m.name, 200)), style, patterns)
	d.add(`<path d="M0 0h%dv%dh-%[1]dz" fill="#fff"/>`+"\n", pageWidth, bottom+24)
	d.Write(body.Bytes())
	d.WriteString("</svg>\n")
	return d.Bytes()
}

func (m *diskMap) drawTitle(d *drawing) {
	d.text(gridLeft, 40, "h", shortened(m.name, 60))
	s := fmt.Sprintf("%s · a disk of %s, stored in %s (%s) · %s", shortened(m.format, 60), humanSize(m.grid.size), humanSize(m.total.Stored),
		percent(m.total.Stored, m.total.Bytes), plural(int(m.total.Chunks), "chunk"))
	d.text(gridLeft, 64, "s", s)
	if m.found == nil {
		return
	}
	class := "s e g"
	if m.found.isDamaged() {
		class = "s e r b"
	}
	d.text(pageWidth-24, 64, class, shortened(m.found.verdict(), 72))
}

// percent is a as a share of b, a dash if there is no b.
func percent(a, b int64) string {
	switch share := float64(a) / float64(b) * 100; {
	case b == 0:
		return "–"
	case a > 0 && share < 1:
		return "<1 %"
	default:
		return fmt.Sprintf("%.0f %%", share)
	}
}

// drawOffsets says at the left where rows begin, and below how much a cell is.
func (m *diskMap) drawOffsets(d *drawing) {
	const apart = 24 // pixels
	g := m.grid
	each := max(1, apart/g.pixels)
	row := g.cellSize * int64(g.cols)
	for i := 0; i < g.rows(); i += each {
		d.text(gridLeft-12, gridTop+i*g.pixels+g.pixels/2+4, "m e", roundSize(int64(i)*row, row*int64(each)))
	}
	note := "The disk is empty."
	if len(m.cells) > 0 {
		note = fmt.Sprintf("A cell is %s, a row %s.", roundSize(g.cellSize, g.cellSize), roundSize(row, row))
	}
	d.text(gridLeft, gridTop+g.height()+18, "m", note)
}

// roundSize is n, a multiple of unit, in the largest unit that unit, a power of two,
// is a multiple of: other than humanSize it rounds nothing.
func roundSize(n, unit int64) string {
	names := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for unit >= 1<<10 {
		n, unit, names = n>>10, unit>>10, names[1:]
	}
	if n == 0 {
		return "0"
	}
	return fmt.Sprintf("%d %s", n, names[0])
}

// drawCells draws the grid: what is empty, what is stored, what is damaged, and the
// lines between partitions.
func (m *diskMap) drawCells(d *drawing) {
	d.add(`<g transform="translate(%d %d)" fill="none">`+"\n", gridLeft, gridTop)
	m.drawFrame(d)
	m.drawLayer(d, func(c cell) ink {
		return ink{stretch: c.empty, fill: fillLevels, hidden: c.fill == fillLevels || c.empty.look == hole}
	})
	m.drawLayer(d, func(c cell) ink { return ink{c.data, c.fill, c.shade, c.fill == 0} })
	m.drawBounds(d)
	m.drawBad(d)
	d.add("</g>\n")
}

// drawFrame draws a line around all cells.
func (m *diskMap) drawFrame(d *drawing) {
	g := m.grid
	full := len(m.cells) / g.cols * g.pixels // height of the full rows
	if rest := len(m.cells) % g.cols * g.pixels; rest == 0 {
		d.add(`<path d="M-1.5 -1.5h%dv%dh-%[1]dz" stroke="#c3cad0"/>`+"\n", gridWidth+2, full+2)
	} else if full == 0 {
		d.add(`<path d="M-1.5 -1.5h%dv%dh-%[1]dz" stroke="#c3cad0"/>`+"\n", rest+2, g.pixels+2)
	} else {
		d.add(`<path d="M-1.5 -1.5h%dv%dh-%dv%dh-%dz" stroke="#c3cad0"/>`+"\n", gridWidth+2, full+2, gridWidth-rest, g.pixels, rest+2)
	}
}

// ink is what a cell is drawn with.
type ink struct {
	stretch
	fill, shade int
	hidden      bool
}

// drawLayer draws a line along each run of cells that look the same and are of the
// same chunk, as thick as the cells are full, and one path of all lines that look
// the same.
func (m *diskMap) drawLayer(d *drawing, inkOf func(cell) ink) {
	g := m.grid
	paths := make(map[ink]*strings.Builder)
	var order []ink
	for i := 0; i < len(m.cells); {
		first := inkOf(m.cells[i])
		n := 1
		for (i+n)%g.cols != 0 && i+n < len(m.cells) && inkOf(m.cells[i+n]) == first {
			n++
		}
		if !first.hidden {
			first.chunk = 0
			if paths[first] == nil {
				paths[first] = new(strings.Builder)
				order = append(order, first)
			}
			fmt.Fprintf(paths[first], "M%d %dh%d", i%g.cols*g.pixels, i/g.cols*g.pixels, n*g.pixels-1)
		}
		i += n
	}
	for _, k := range order {
		// However little is stored, it is to be seen.
		height := float64(g.pixels-1) * float64(k.fill+1) / (fillLevels + 1)
		middle := float64(g.pixels-1) - height/2
		d.add(`<path transform="translate(0 %s)" stroke="%s" stroke-width="%s" d="%s"/>`+"\n",
			decimal(middle), paint(k.look, k.shade), decimal(height), paths[k])
	}
}

// decimal is a number with as few digits as need be.
func decimal(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

// drawBad hatches the damaged cells, a little larger than they are, and points to
// their rows from the left, since one cell of thousands is not easily found.
func (m *diskMap) drawBad(d *drawing) {
	g := m.grid
	var cells, rows strings.Builder
	last := -1
	for i := 0; i < len(m.cells); {
		n := 1
		if !m.cells[i].bad {
			i++
			continue
		}
		for (i+n)%g.cols != 0 && i+n < len(m.cells) && m.cells[i+n].bad {
			n++
		}
		fmt.Fprintf(&cells, "M%d %dh%dv%dh-%[3]dz", i%g.cols*g.pixels, i/g.cols*g.pixels, n*g.pixels-1, g.pixels-1)
		if row := i / g.cols; row != last {
			last = row
			fmt.Fprintf(&rows, "M-9 %dl5 3l-5 3z", row*g.pixels+(g.pixels-1)/2-3)
		}
		i += n
	}
	if last >= 0 {
		d.add(`<path fill="#d0021b" d="%s"/>`+"\n", &rows)
		d.add(`<path fill="url(#damage)" stroke="#d0021b" stroke-width="1.4" d="%s"/>`+"\n", &cells)
	}
}

// bounds are the cells at which partitions begin, and in which they end, in order.
func (m *diskMap) bounds() []int64 {
	var cells []int64
	for _, p := range m.partitions {
		cells = append(cells, p.off/m.grid.cellSize)
		if end := p.end(); end < m.grid.size {
			cells = append(cells, end/m.grid.cellSize)
		}
	}
	slices.Sort(cells)
	return slices.Compact(cells)
}

// drawBounds draws the lines between partitions, down a step at the cell where one
// begins.
func (m *diskMap) drawBounds(d *drawing) {
	g := m.grid
	var path strings.Builder
	for _, i := range m.bounds() {
		if i == 0 {
			continue
		}
		row, col := int(i)/g.cols, int(i)%g.cols
		x, y := col*g.pixels, row*g.pixels
		if col == 0 {
			fmt.Fprintf(&path, "M-2 %dH%d", y, gridWidth+1)
		} else {
			fmt.Fprintf(&path, "M-2 %dH%dV%dH%d", y+g.pixels, x, y, gridWidth+1)
		}
	}
	if path.Len() > 0 {
		// Between the cells, over a white line that keeps it apart from them.
		d.add(`<g transform="translate(-.5 -.5)"><path stroke="#fff" stroke-width="3" d="%s"/>`, &path)
		d.add(`<path stroke="#111" stroke-width="1.4" d="%s"/></g>`+"\n", &path)
	}
}

// drawPartitions names the partitions at the right, each with a line to the row where
// it begins. It returns the height that they take.
func (m *diskMap) drawPartitions(d *drawing) int {
	const roomy, tight = 34, 18 // pixels from one label to the next
	gap := roomy
	if roomy*len(m.partitions) > m.grid.height()+4*legendLine { // the legend is that high at least
		gap = tight
	}
	places := make([]int, len(m.partitions))
	for i, p := range m.partitions {
		row, _ := m.grid.place(p.off)
		places[i] = row * m.grid.pixels
	}
	at := spread(places, gap, m.grid.height()-gap)
	for i, p := range m.partitions {
		y := gridTop + at[i]
		d.add(`<path d="M%d %dh5L%d %dh4" fill="none" stroke="#7b8794"/>`+"\n", gridRight+2, gridTop+places[i], labelLeft-10, y+6)
		d.add("<g><title>%s\n%d bytes at %d</title>\n", escaped(shortened(p.name, 200)), p.length, p.off)
		m.drawLabel(d, p, y, gap == roomy)
		d.add("</g>\n")
	}
	height := 0
	if n := len(at); n > 0 {
		height = at[n-1] + gap
	}
	if m.omitted > 0 {
		height += legendLine
		d.text(labelLeft, gridTop+height-8, "m", fmt.Sprintf("and %d smaller ones", m.omitted))
	}
	return height
}

// drawLabel names a partition, in two lines or in one.
func (m *diskMap) drawLabel(d *drawing, p mapPartition, y int, twoLines bool) {
	const left, letters = labelLeft + 24, 28
	name, badge := partitionName(p.name), y+16
	d.text(labelLeft, y+10, "b", fmt.Sprint(p.index))
	if twoLines {
		d.text(left, y+10, "", shortened(name, letters))
		d.text(left, y+25, "m", fmt.Sprintf("%s at %d", humanSize(p.length), p.off))
	} else {
		place := fmt.Sprintf("at %d", p.off)
		d.text(left, y+10, "", shortened(name, letters-len(place)))
		d.text(pageWidth-20, y+10, "m e", place)
		badge = y + 3
	}
	if m.found != nil && m.found.isBad(p.index) {
		d.badge(left-11, badge, 7)
	}
}

// drawLegend is a line for each look that there is, and how to read a cell. It
// returns where it ends.
func (m *diskMap) drawLegend(d *drawing, y int) int {
	columns := []int{gridLeft + 330, gridLeft + 450, gridLeft + 570, gridLeft + 650}
	line := func(y int, name, class string, cells ...string) {
		d.text(gridLeft+4*swatchWidth+24, y, class, name)
		for i, s := range cells {
			d.text(columns[i], y, class+" e", s)
		}
	}
	for i := range numShades + 1 {
		d.text(gridLeft+i*swatchWidth, y, "k c", fmt.Sprint(100*i/numShades))
	}
	line(y, "% stored", "k", "", "", "", "")
	line(y, "", "m", "chunks", "disk", "stored", "")
	for l := range numLooks {
		t := m.totals[l]
		if t.Chunks == 0 {
			continue
		}
		y += legendLine
		m.drawSwatch(d, l, y-11)
		name, stored, share := lookNames[l], "–", ""
		if l.stored() {
			stored, share = humanSize(t.Stored), percent(t.Stored, t.Bytes)
		}
		if l == unsupported {
			name = strings.Join(m.methods[:min(len(m.methods), maxMethods)], ", ")
			if len(m.methods) > maxMethods {
				name += ", …"
			}
		}
		line(y, name, "", fmt.Sprint(t.Chunks), humanSize(t.Bytes), stored, share)
	}
	return m.drawKey(d, y+legendLine+8)
}

// drawSwatch is a sample of a look in all its shades.
func (m *diskMap) drawSwatch(d *drawing, l look, y int) {
	const height = 14
	switch {
	case l == hole:
		d.add(`<path d="M%d %d.5h%dv%dh-%[3]dz" fill="#fff" stroke="#c3cad0"/>`+"\n", gridLeft, y, 4*swatchWidth-2, height-1)
	case !l.stored() || l == raw || l == unsupported:
		d.add(`<path d="M%d %dh%dv%dh-%[3]dz" fill="%[5]s"/>`+"\n", gridLeft, y, 4*swatchWidth-2, height, paint(l, 0))
	default:
		for i := range numShades {
			d.add(`<path d="M%d %dh%dv%dh-%[3]dz" fill="%[5]s"/>`+"\n", gridLeft+i*swatchWidth, y, swatchWidth-2, height, paint(l, i))
		}
	}
}

// drawKey says what cells and lines mean.
func (m *diskMap) drawKey(d *drawing, y int) int {
	const side = 10
	x := gridLeft
	for i := range fillLevels {
		h := side * (i + 2) / (fillLevels + 1)
		d.add(`<path d="M%d %dh%dv%dh-%[3]dz" fill="#dfe3e6"/>`, x, y-9, side, side)
		d.add(`<path d="M%d %dh%dv%dh-%[3]dz" fill="#707b85"/>`+"\n", x, y-9+side-h, side, h)
		x += side + 3
	}
	d.text(x+5, y, "m", "filled as far as it is stored")
	x += 190
	d.add(`<path d="M%d %dh12v-8h12" fill="none" stroke="#111" stroke-width="1.4"/>`+"\n", x, y)
	d.text(x+32, y, "m", "a partition begins or ends")
	if m.found != nil && m.found.any() {
		x += 220
		d.badge(x, y-9, side)
		d.text(x+20, y, "m", map[bool]string{true: "damaged", false: "not checked"}[m.found.isDamaged()])
	}
	return y
}

// drawDamage lists what is damaged, as far as there is room.
func (m *diskMap) drawDamage(d *drawing, y int) int {
	const maxLines, maxLetters = 24, 140
	var lines []string
	for i := range m.found.parts {
		if e := m.found.parts[i].wrong; e != nil {
			lines = append(lines, oneLine(e))
		}
	}
	lines = append(lines, m.found.lines()...)
	class, title := "b r", "Damage"
	if !m.found.isDamaged() {
		class, title = "b", "Not checked"
	}
	d.text(gridLeft, y+10, class, title)
	y += 10
	for _, s := range lines[:min(len(lines), maxLines)] {
		y += 17
		d.text(gridLeft, y, "l", shortened(s, maxLetters))
	}
	if n := len(lines) - maxLines; n > 0 {
		y += 17
		d.text(gridLeft, y, "m", fmt.Sprintf("and %d more lines, which dmg verify prints", n))
	}
	return y
}
