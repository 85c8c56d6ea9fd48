package storetest

import "github.com/devicegrant/devicegrant"

var countClauses = []clause{
	{"answers, where the Store has it", countAnswers},
}

// countAnswers asks for little, for a Store may count roughly.
func countAnswers(s *suite) {
	counter, ok := s.Store.(devicegrant.Counter)
	if !ok {
		return
	}
	for range 3 {
		if n, err := counter.Count(s.Context()); err != nil || n < 0 {
			s.Errorf("Count returned %d, %v", n, err)
		}
		s.store()
	}
}
