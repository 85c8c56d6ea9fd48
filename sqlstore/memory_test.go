package sqlstore

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// pending is a grant that was polled on time at noon, with an interval of 5 s.
func pending() devicegrant.Polled {
	return devicegrant.Polled{
		ID: uuid.New(), ClientID: "tv", State: devicegrant.Pending, ExpiresAt: noon.Add(8 * time.Second),
		Pace: devicegrant.Pace{Interval: 5 * time.Second}.Next(noon),
	}
}

func TestEarly(t *testing.T) {
	for name, tt := range map[string]struct {
		after time.Duration
		made  func(*known)
		want  bool
	}{
		"early":                         {time.Second, nil, true},
		"early to the last":             {4*time.Second - time.Microsecond, nil, true},
		"on time":                       {4 * time.Second, nil, false},
		"the same poll":                 {time.Millisecond, nil, true},
		"by a clock that stepped back":  {-time.Second, nil, false},
		"by another client":             {time.Second, func(k *known) { k.polled.ClientID = "cli" }, false},
		"after a decision":              {time.Second, func(k *known) { k.pending = false }, false},
		"at the deadline":               {time.Second, func(k *known) { k.polled.ExpiresAt = noon.Add(time.Second) }, false},
		"just before the deadline":      {time.Second, func(k *known) { k.polled.ExpiresAt = noon.Add(time.Second + 1) }, true},
		"seen a moment ago":             {time.Second, func(k *known) { k.asked = noon.Add(time.Second + 1 - trusted) }, true},
		"not seen for too long":         {time.Second, func(k *known) { k.asked = noon.Add(time.Second - trusted) }, false},
		"seen by a clock that was fast": {time.Second, func(k *known) { k.asked = noon.Add(time.Second + trusted) }, false},
		"of nothing known":              {time.Second, func(k *known) { *k = known{} }, false},
	} {
		k := known{polled: pending(), asked: noon, pending: true}
		if tt.made != nil {
			tt.made(&k)
		}
		next, ok := k.early("tv", noon.Add(tt.after))
		assert.Equal(t, tt.want, ok, name)
		if ok {
			assert.Equal(t, k.polled.Pace.Next(noon.Add(tt.after)), next, name)
		}
	}
}

// A change that does not matter is one without which a poll leads to the same pace, in the
// database and, by what is known of it, here.
func TestChange(t *testing.T) {
	start := devicegrant.Pace{Interval: 5 * time.Second}.Next(noon)
	twice := change{start, start.Next(noon.Add(time.Millisecond))}
	slower := change{start, start.Next(noon.Add(time.Second))}
	at := func(d time.Duration) time.Time { return noon.Add(d) }

	assert.False(t, twice.matters(at(5*time.Second)), "on time")
	assert.True(t, twice.matters(at(2*time.Millisecond)), "a third time at once")
	assert.True(t, slower.matters(at(5*time.Second)), "early by the longer interval")
	assert.True(t, slower.matters(at(20*time.Second)), "on time, but the interval is to be kept")

	assert.Equal(t, slower.after, slower.on(start))
	assert.Equal(t, slower.after, slower.on(slower.after), "once more")
	elsewhere := start.Next(at(5 * time.Second))
	got := slower.on(elsewhere)
	assert.Equal(t, 10*time.Second, got.Interval)
	got.Interval = elsewhere.Interval
	assert.Equal(t, elsewhere, got, "nothing else of a pace that others have changed")
	elsewhere.Interval = 15 * time.Second
	assert.Equal(t, elsewhere, slower.on(elsewhere), "no interval gets shorter")
}

// ask has the database answer a poll.
func ask(m *memory, f *flight, p devicegrant.Polled, err error) {
	m.begin(f)
	f.polled, f.err = p, err
	m.end(f)
}

func poll(code byte, after time.Duration) *flight {
	return &flight{code: devicegrant.DeviceCodeDigest{code}, clientID: "tv", now: noon.Add(after)}
}

func TestMemory(t *testing.T) {
	m := newMemory(false)
	_, ok := m.early(poll(1, 0))
	require.False(t, ok, "nothing is known")
	first := poll(1, 0)
	ask(m, first, pending(), nil)
	assert.False(t, first.again)

	p, ok := m.early(poll(1, time.Second))
	require.True(t, ok)
	assert.Equal(t, 10*time.Second, p.Pace.Interval)
	p, ok = m.early(poll(1, 2*time.Second))
	require.True(t, ok)
	assert.Equal(t, 15*time.Second, p.Pace.Interval, "it goes on from there")
	_, ok = m.early(poll(2, time.Second))
	assert.False(t, ok, "another grant")

	g := &devicegrant.Grant{DeviceCode: devicegrant.DeviceCodeDigest{1}, State: devicegrant.Pending, Pace: pending().Pace}
	assert.True(t, m.read(g, m.saved()))
	assert.Equal(t, p.Pace, g.Pace, "what is read is completed")
	code, ok := m.slowed()
	assert.Equal(t, devicegrant.DeviceCodeDigest{1}, code)
	assert.True(t, ok)
	_, ok = m.slowed()
	assert.False(t, ok, "it is one grant, however often it was early")

	f := poll(1, 5*time.Second)
	m.begin(f)
	assert.True(t, f.again)
	assert.Equal(t, &change{pending().Pace, p.Pace}, f.change)
	before := m.saved()
	m.save(f.code)
	assert.Nil(t, m.change(f.code))
	assert.False(t, m.read(g, before), "what was saved since may be missing")
	f.polled = p
	m.end(f)
	assert.True(t, m.read(g, m.saved()))
	assert.Equal(t, p.Pace, g.Pace)
}

// A change that could not be saved is still to be.
func TestMemoryKeepsWhatIsNotSaved(t *testing.T) {
	m := newMemory(false)
	ask(m, poll(1, 0), pending(), nil)
	_, ok := m.early(poll(1, time.Second))
	require.True(t, ok)
	ask(m, poll(1, 15*time.Second), devicegrant.Polled{}, assert.AnError)
	_, ok = m.early(poll(1, 2*time.Second))
	assert.False(t, ok, "the database has to be asked what it has made of that")
	f := poll(1, 15*time.Second)
	m.begin(f)
	assert.NotNil(t, f.change)
}

// Whoever hears of a decision asks the database, also if a query was under way then.
func TestMemoryHearsOfDecisions(t *testing.T) {
	code := devicegrant.DeviceCodeDigest{1}
	for name, hear := range map[string]func(*memory){
		"made here": func(m *memory) { m.decided(code) },
		"read":      func(m *memory) { m.read(&devicegrant.Grant{DeviceCode: code, State: devicegrant.Denied}, 0) },
		"created":   func(m *memory) { m.created(code) },
		"purged":    func(m *memory) { m.purge(noon.Add(time.Minute)) },
	} {
		m := newMemory(false)
		ask(m, poll(1, 0), pending(), nil)
		hear(m)
		_, ok := m.early(poll(1, time.Second))
		assert.False(t, ok, name)
	}
	m := newMemory(false)
	f := poll(1, 0)
	m.begin(f)
	m.decided(code)
	f.polled = pending()
	m.end(f)
	_, ok := m.early(poll(1, time.Second))
	assert.False(t, ok, "the answer may be older than the decision")
	ask(m, poll(1, 0), pending(), nil)
	_, ok = m.early(poll(1, time.Second))
	assert.True(t, ok, "the next is not")

	m.read(&devicegrant.Grant{DeviceCode: code, State: devicegrant.Pending}, 0)
	m.purge(noon)
	_, ok = m.early(poll(1, 2*time.Second))
	assert.True(t, ok, "neither was about this grant")
	approved := pending()
	approved.State = devicegrant.Approved
	ask(m, poll(1, 5*time.Second), approved, nil)
	_, ok = m.early(poll(1, 6*time.Second))
	assert.False(t, ok, "approved")
}

func TestMemoryIsBounded(t *testing.T) {
	m := newMemory(false)
	for i := range maxUnsaved + 1 {
		f := poll(0, 0)
		f.code = devicegrant.DeviceCodeDigest{1: byte(i), 2: byte(i >> 8), 3: byte(i >> 16)}
		ask(m, f, pending(), nil)
		f.now = noon.Add(time.Second)
		_, ok := m.early(f)
		require.Equal(t, i < maxUnsaved, ok, i)
	}
	assert.Len(t, m.unsaved, maxUnsaved)
	assert.Len(t, m.grown, maxUnsaved)
	f := poll(0, 1500*time.Millisecond)
	_, ok := m.early(f)
	assert.True(t, ok, "one that is counted already")

	m.save(f.code)
	ask(m, poll(0, 0), pending(), nil)
	_, ok = m.early(poll(0, time.Second))
	require.True(t, ok, "there is room again")
	assert.Len(t, m.grown, maxUnsaved, "and no room here, while nobody asks for them")
}

// A client that sends every poll twice costs no statement more.
func TestMemoryOfSamePoll(t *testing.T) {
	m := newMemory(false)
	ask(m, poll(1, 0), pending(), nil)
	_, ok := m.early(poll(1, time.Millisecond))
	require.True(t, ok)
	f := poll(1, 5*time.Second)
	m.begin(f)
	assert.Nil(t, f.change)
	assert.Empty(t, m.grown)
}

func TestMemoryWithExactPace(t *testing.T) {
	m := newMemory(true)
	ask(m, poll(1, 0), pending(), nil)
	_, ok := m.early(poll(1, time.Second))
	assert.False(t, ok)
}

// Whatever comes, polls answered from memory and by a database that is told of changes
// have the pace that they have without a memory.
func TestMemoryRandom(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 8628))
		m, polled := newMemory(false), pending()
		polled.ExpiresAt = noon.Add(time.Hour)
		database, want := polled.Pace, polled.Pace
		ask(m, poll(1, 0), polled, nil)
		early := 0
		for now := noon; now.Before(noon.Add(time.Minute)); {
			step := []time.Duration{time.Millisecond, 100 * time.Millisecond, time.Second, want.Interval * 4 / 5, want.Interval, -time.Millisecond}
			now = now.Add(step[rng.IntN(len(step))])
			f := poll(1, now.Sub(noon))
			want = want.Next(now)
			if p, ok := m.early(f); ok {
				early++
				require.Equal(t, want, p.Pace, fmt.Sprint("seed ", seed))
				continue
			}
			m.begin(f)
			if f.change != nil {
				require.Equal(t, database, f.change.before, fmt.Sprint("seed ", seed))
				database = f.change.after
				m.save(f.code)
			}
			database = database.Next(now)
			require.Equal(t, want, database, fmt.Sprint("seed ", seed))
			f.polled = polled
			f.polled.Pace = database
			m.end(f)
		}
		require.Positive(t, early)
	}
}
