package memstore

import "encoding/binary"

// cellLen makes a cell 48 bytes: enough, mostly, for what a device says of itself and the
// address that it says it from.
const cellLen = 44

// cell is a piece of a text, and the slot of the next; zero after the last.
type cell struct {
	next uint32
	text [cellLen]byte
}

// cells holds texts of any length in chains of cells, by the slot of the first. The empty
// text is slot 0. Where a text ends in its last cell its owner must know.
type cells struct{ slab slab[cell] }

// put stores a text.
func (c *cells) put(text []byte) (first uint32) {
	for end := len(text); end > 0; {
		begin := (end - 1) / cellLen * cellLen
		slot := c.slab.take()
		last := c.slab.at(slot)
		copy(last.text[:], text[begin:end])
		last.next, first = first, slot
		end = begin
	}
	return first
}

// appendTo appends a text to b, and zeros up to the end of the last cell.
func (c *cells) appendTo(b []byte, first uint32) []byte {
	for slot := first; slot != 0; {
		next := c.slab.at(slot)
		b = append(b, next.text[:]...)
		slot = next.next
	}
	return b
}

// begins reports whether a text that is as long as prefix at least begins with it.
func (c *cells) begins(first uint32, prefix string) bool {
	for slot := first; prefix != ""; {
		next := c.slab.at(slot)
		n := min(len(prefix), cellLen)
		if string(next.text[:n]) != prefix[:n] {
			return false
		}
		prefix, slot = prefix[n:], next.next
	}
	return true
}

// free frees the cells of a text.
func (c *cells) free(first uint32) {
	for slot := first; slot != 0; {
		next := c.slab.at(slot).next
		c.slab.drop(slot)
		slot = next
	}
}

// appendField appends a text that cutField finds the end of.
func appendField(b []byte, field string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(field))), field...)
}

// cutField returns the first field and what follows it. There is none in no bytes.
func cutField(b []byte) (field string, rest []byte) {
	length, n := binary.Uvarint(b)
	end := n + int(length) //nolint:gosec // it was the length of a text
	return string(b[n:end]), b[end:]
}
