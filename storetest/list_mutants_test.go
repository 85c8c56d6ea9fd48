package storetest

import (
	"bytes"
	"slices"
	"strings"

	"github.com/devicegrant/devicegrant"
)

// listing has List return what find makes of the query.
func listing(wanted func(g *grant, q devicegrant.ListQuery) bool) func(*reference) {
	return func(r *reference) {
		r.list = func(r *reference, q devicegrant.ListQuery) ([]*grant, error) {
			found := r.find(func(g *grant) bool { return wanted(g, q) })
			slices.SortFunc(found, byDeviceCodes)
			return found[:min(len(found), q.Limit)], nil
		}
	}
}

// Each of what List has to look at.
func open(g *grant) bool {
	return g.State == devicegrant.Pending || g.State == devicegrant.Approved
}

func live(g *grant, q devicegrant.ListQuery) bool { return q.Now.Before(g.ExpiresAt) }

func after(g *grant, q devicegrant.ListQuery) bool {
	return bytes.Compare(g.DeviceCode[:], q.After[:]) > 0
}

func clients(g *grant, q devicegrant.ListQuery) bool {
	return q.ClientID == "" || g.ClientID == q.ClientID
}

func subjects(g *grant, q devicegrant.ListQuery) bool {
	return q.Subject == "" || g.Subject == q.Subject
}

var listMutants = []mutant{
	{"List returns every state", "List/returns what is pending or approved, and not over", listing(func(g *grant, q devicegrant.ListQuery) bool {
		return live(g, q) && after(g, q) && clients(g, q) && subjects(g, q)
	})},
	{"List returns what is pending", "List/returns what is pending or approved, and not over", listing(func(g *grant, q devicegrant.ListQuery) bool {
		return g.State == devicegrant.Pending && live(g, q) && after(g, q) && clients(g, q) && subjects(g, q)
	})},
	{"List returns what has expired", "List/returns what is pending or approved, and not over", listing(func(g *grant, q devicegrant.ListQuery) bool {
		return open(g) && after(g, q) && clients(g, q) && subjects(g, q)
	})},
	{"List returns what expires now", "List/returns what is pending or approved, and not over", listing(func(g *grant, q devicegrant.ListQuery) bool {
		return open(g) && !q.Now.After(g.ExpiresAt) && after(g, q) && clients(g, q) && subjects(g, q)
	})},
	{"List does not look at the client", "List/goes by client and by subject", listing(func(g *grant, q devicegrant.ListQuery) bool {
		return open(g) && live(g, q) && after(g, q) && subjects(g, q)
	})},
	{"List does not look at the subject", "List/goes by client and by subject", listing(func(g *grant, q devicegrant.ListQuery) bool {
		return open(g) && live(g, q) && after(g, q) && clients(g, q)
	})},
	{"List takes either filter", "List/goes by client and by subject", listing(func(g *grant, q devicegrant.ListQuery) bool {
		return open(g) && live(g, q) && after(g, q) && (q.ClientID != "" && g.ClientID == q.ClientID || subjects(g, q))
	})},
	{"List folds case", "List/goes by client and by subject", listing(func(g *grant, q devicegrant.ListQuery) bool {
		return open(g) && live(g, q) && after(g, q) && (q.ClientID == "" || strings.EqualFold(g.ClientID, q.ClientID)) && subjects(g, q)
	})},
	{"List begins anew", "List/goes on in the order of device codes", listing(func(g *grant, q devicegrant.ListQuery) bool {
		return open(g) && live(g, q) && clients(g, q) && subjects(g, q)
	})},
	{"List returns the last one again", "List/goes on in the order of device codes", listing(func(g *grant, q devicegrant.ListQuery) bool {
		return open(g) && live(g, q) && bytes.Compare(g.DeviceCode[:], q.After[:]) >= 0 && clients(g, q) && subjects(g, q)
	})},
	{"List knows no limit", "List/goes on in the order of device codes", func(r *reference) {
		r.list = func(r *reference, q devicegrant.ListQuery) ([]*grant, error) {
			q.Limit = 1000
			return list(r, q)
		}
	}},
	{"List is in no order", "List/goes on in the order of device codes", func(r *reference) {
		r.list = func(r *reference, q devicegrant.ListQuery) ([]*grant, error) {
			found, err := list(r, devicegrant.ListQuery{ClientID: q.ClientID, Subject: q.Subject, After: q.After, Now: q.Now, Limit: 1000})
			slices.Reverse(found)
			return found[:min(len(found), q.Limit)], err
		}
	}},
	{"List compares signed bytes", "List/goes on in the order of device codes", func(r *reference) {
		r.list = func(r *reference, q devicegrant.ListQuery) ([]*grant, error) {
			found, err := list(r, devicegrant.ListQuery{ClientID: q.ClientID, Subject: q.Subject, After: q.After, Now: q.Now, Limit: 1000})
			slices.SortStableFunc(found, func(a, b *grant) int { return int(int8(a.DeviceCode[0])) - int(int8(b.DeviceCode[0])) })
			return found[:min(len(found), q.Limit)], err
		}
	}},
	{"List looks at the first Limit", "List/returns the first Limit of those that match", func(r *reference) {
		r.list = func(r *reference, q devicegrant.ListQuery) ([]*grant, error) {
			found := r.find(func(g *grant) bool { return after(g, q) })
			slices.SortFunc(found, byDeviceCodes)
			return slices.DeleteFunc(found[:min(len(found), q.Limit)], func(g *grant) bool {
				return !open(g) || !live(g, q) || !clients(g, q) || !subjects(g, q)
			}), nil
		}
	}},
	{"List ends when After is denied", "List/goes on after what no longer matches", endingAt(func(g grant, _ bool) bool { return g.State == devicegrant.Denied })},
	{"List ends when After is purged", "List/goes on after what no longer matches", endingAt(func(_ grant, there bool) bool { return !there })},
	{"List takes a pattern", "List/goes by client and by subject", listing(func(g *grant, q devicegrant.ListQuery) bool {
		return open(g) && live(g, q) && after(g, q) && (q.ClientID == "%" || clients(g, q)) && subjects(g, q)
	})},
	{"List goes by a wall clock", "List/returns what is pending or approved, and not over", listing(func(g *grant, q devicegrant.ListQuery) bool {
		return open(g) && wall(q.Now).Before(g.ExpiresAt) && after(g, q) && clients(g, q) && subjects(g, q)
	})},
	{"List goes by the subject as it was created", "List/sees every write at once", listing(func(g *grant, q devicegrant.ListQuery) bool {
		return open(g) && live(g, q) && after(g, q) && clients(g, q) && subjects(g, q) && (q.Subject == "" || g.Version == 0)
	})},
	{"List returns the stored grants themselves", "List/returns what is stored", func(r *reference) {
		r.list = func(r *reference, q devicegrant.ListQuery) ([]*grant, error) {
			found, err := list(r, q)
			return locked2(r, func() ([]*grant, error) {
				for i, g := range found {
					found[i] = r.grants[g.DeviceCode]
				}
				return found, err
			})
		}
	}},
	{"List leaves the pace out", "List/returns what is stored", func(r *reference) {
		r.list = func(r *reference, q devicegrant.ListQuery) ([]*grant, error) {
			found, err := list(r, q)
			for _, g := range found {
				g.Pace = devicegrant.Pace{Interval: g.Pace.Interval}
			}
			return found, err
		}
	}},
}

// endingAt has List find nothing after some grants.
func endingAt(last func(g grant, there bool) bool) func(*reference) {
	return func(r *reference) {
		sound := r.list
		r.list = func(r *reference, q devicegrant.ListQuery) ([]*grant, error) {
			if g, there := r.get(q.After); q.After != noDeviceCode && last(g, there) {
				return nil, nil
			}
			return sound(r, q)
		}
	}
}
