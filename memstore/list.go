package memstore

import (
	"bytes"
	"context"
	"slices"

	"github.com/devicegrant/devicegrant"
)

// List implements devicegrant.Lister. It walks the shards, which are in the order of
// device codes, and looks again at each grant of which it returns a copy.
func (s *Store) List(ctx context.Context, q devicegrant.ListQuery) ([]*devicegrant.Grant, error) {
	var list []*devicegrant.Grant
	for i := int(q.After[0]); i < shardCount && len(list) < q.Limit; i++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		shard := &s.grants[i]
		for _, code := range shard.list(&q) {
			if len(list) >= q.Limit {
				break
			}
			if g := s.listed(shard, code, &q); g != nil {
				list = append(list, g)
			}
		}
	}
	return list, nil
}

// list returns the device codes of the grants for which q is true, in their order.
func (shard *grantShard) list(q *devicegrant.ListQuery) []devicegrant.DeviceCodeDigest {
	var codes []devicegrant.DeviceCodeDigest
	for slot, more := uint32(1), true; more; slot += stepLen {
		codes, more = shard.listStep(codes, slot, q)
	}
	slices.SortFunc(codes, func(a, b devicegrant.DeviceCodeDigest) int { return bytes.Compare(a[:], b[:]) })
	return codes
}

// listStep appends those from the slot on, and reports whether there are more slots.
func (shard *grantShard) listStep(codes []devicegrant.DeviceCodeDigest, slot uint32, q *devicegrant.ListQuery) ([]devicegrant.DeviceCodeDigest, bool) {
	shard.Lock()
	defer shard.Unlock()
	end := min(slot+stepLen-1, shard.records.last)
	for ; slot <= end; slot++ {
		if r := shard.records.at(slot); shard.matches(r, q) {
			codes = append(codes, r.deviceCode)
		}
	}
	return codes, slot <= shard.records.last
}

// listed returns a copy of a grant, if q is still true for it.
func (s *Store) listed(shard *grantShard, code devicegrant.DeviceCodeDigest, q *devicegrant.ListQuery) *devicegrant.Grant {
	shard.Lock()
	defer shard.Unlock()
	slot := shard.find(code)
	if slot == 0 || !shard.matches(shard.records.at(slot), q) {
		return nil
	}
	return s.read(shard, shard.records.at(slot))
}
