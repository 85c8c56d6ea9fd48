package devicegrant

import (
	"io"
	"time"
)

// What tests outside the package reach of the inside: the clock, where it has to
// step back, and the source of randomness, where it has to fail.

func (s *Server) SetClock(now func() time.Time) { s.now = now }

func (s *Server) SetRandom(r io.Reader) { s.random = r }
