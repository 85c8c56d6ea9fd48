package customstore

// WithoutSync has writes not wait for the disk.
func (s *Store) WithoutSync() *Store {
	s.db.NoSync = true
	return s
}
