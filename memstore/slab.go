package memstore

// chunkLen is how many slots a slab grows by. It makes the chunks of records, of cells
// and of interned texts as large as a size class of the allocator.
const chunkLen = 64

// slab holds values of T, which has no pointers, in numbered slots. It grows by chunks, so
// that no value ever moves, and the garbage collector looks at chunks only. It does not
// shrink: slots that were freed are for values that come.
//
// Slot 0 is never taken, and stands for none.
type slab[T any] struct {
	chunks []*[chunkLen]T
	last   uint32 // of the slots that were ever taken
	freed  []uint32
}

// at returns the value in a slot that was taken.
func (s *slab[T]) at(slot uint32) *T { return &s.chunks[slot/chunkLen][slot%chunkLen] }

// take returns a slot with the zero T.
func (s *slab[T]) take() uint32 {
	if n := len(s.freed); n > 0 {
		slot := s.freed[n-1]
		s.freed = s.freed[:n-1]
		return slot
	}
	s.last++
	if int(s.last/chunkLen) >= len(s.chunks) {
		s.chunks = append(s.chunks, new([chunkLen]T))
	}
	return s.last
}

// drop frees a slot, of which nothing is left.
func (s *slab[T]) drop(slot uint32) {
	clear(s.chunks[slot/chunkLen][slot%chunkLen : slot%chunkLen+1])
	s.freed = append(s.freed, slot)
}

// taken is how many slots are taken.
func (s *slab[T]) taken() int { return int(s.last) - len(s.freed) }
