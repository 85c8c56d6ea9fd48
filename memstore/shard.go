package memstore

import (
	"bytes"
	"strings"
	"sync"

	"github.com/devicegrant/devicegrant"
)

// grantShard has some of the grants, and what text is theirs; user agents are in
// Store.agents. Whoever calls its methods has its lock.
type grantShard struct {
	sync.Mutex
	index   index // by device code
	records slab[record]
	client  client // of the first grant, for polls not to look for its text
	texts   intern // client ids and scopes
	cells   cells
}

// client is a client id and its slot in the texts; zero for none.
type client struct {
	slot uint32
	id   string
}

// isClient reports whether a grant is the client's.
func (shard *grantShard) isClient(r *record, id string) bool {
	return r.client == shard.client.slot && id == shard.client.id || shard.texts.is(&shard.cells, r.client, id)
}

// find returns the slot of a grant, zero if there is none.
func (shard *grantShard) find(code devicegrant.DeviceCodeDigest) uint32 {
	return shard.index.find(hashDigest(code), func(slot uint32) bool { return shard.records.at(slot).deviceCode == code })
}

// insert stores a new grant and returns its slot.
func (shard *grantShard) insert(g *devicegrant.Grant, agent uint32) uint32 {
	var buf [512]byte
	slot := shard.records.take()
	r := shard.records.at(slot)
	r.live, r.deviceCode, r.id, r.agent = true, g.DeviceCode, g.ID, agent
	r.created, r.version = instantOf(g.CreatedAt), g.Version
	r.client = shard.texts.add(&shard.cells, g.ClientID)
	if shard.client.slot == 0 {
		shard.client = client{r.client, strings.Clone(g.ClientID)}
	}
	r.asked = shard.cells.put(appendAsked(buf[:0], g))
	r.setPace(g.Pace)
	shard.write(r, g)
	shard.index.insert(hashDigest(g.DeviceCode), slot)
	return slot
}

// write writes what Store.Swap does, but for the version.
func (shard *grantShard) write(r *record, g *devicegrant.Grant) {
	var buf [512]byte
	r.userCode, r.state, r.entered, r.expires = g.UserCode, g.State, g.Entered, instantOf(g.ExpiresAt)
	scope := shard.texts.add(&shard.cells, g.Scope)
	shard.texts.release(&shard.cells, r.scope)
	shard.cells.free(r.decided)
	r.scope, r.decided = scope, shard.cells.put(appendDecided(buf[:0], g))
}

// read returns a copy of a grant, without its user agent.
func (shard *grantShard) read(r *record) *devicegrant.Grant {
	var buf [512]byte
	g := &devicegrant.Grant{
		ID: r.id, DeviceCode: r.deviceCode, UserCode: r.userCode,
		ClientID: shard.texts.text(&shard.cells, r.client), Scope: shard.texts.text(&shard.cells, r.scope),
		State: r.state, Entered: r.entered, CreatedAt: r.created.time(), ExpiresAt: r.expires.time(), Pace: r.pace(), Version: r.version,
	}
	readAsked(g, shard.cells.appendTo(buf[:0], r.asked))
	readDecided(g, shard.cells.appendTo(buf[:0], r.decided))
	return g
}

// remove forgets a grant.
func (shard *grantShard) remove(slot uint32) {
	r := shard.records.at(slot)
	if shard.texts.release(&shard.cells, r.client) && r.client == shard.client.slot {
		shard.client = client{} // Its slot may become another's.
	}
	shard.texts.release(&shard.cells, r.scope)
	shard.cells.free(r.asked)
	shard.cells.free(r.decided)
	shard.index.remove(hashDigest(r.deviceCode), slot)
	shard.records.drop(slot)
}

// matches is all of a ListQuery.
func (shard *grantShard) matches(r *record, q *devicegrant.ListQuery) bool {
	return r.live && (r.state == devicegrant.Pending || r.state == devicegrant.Approved) && r.expires > instantOf(q.Now) &&
		bytes.Compare(r.deviceCode[:], q.After[:]) > 0 &&
		(q.ClientID == "" || shard.isClient(r, q.ClientID)) &&
		(q.Subject == "" || shard.subject(r) == q.Subject)
}

func (shard *grantShard) subject(r *record) string {
	var buf [512]byte
	var g devicegrant.Grant
	readDecided(&g, shard.cells.appendTo(buf[:0], r.decided))
	return g.Subject
}
