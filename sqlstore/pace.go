package sqlstore

import "strings"

// nextPace is Pace.Next (polling.go of the root) in SQL: interval_us, on_time,
// last_poll and repeated after a poll at {now}, from those before it, which {old}
// qualifies. Everything is in microseconds, and multiplied where the rule divides.
// storetest compares it with the rule.
const nextPace = "CASE WHEN " + paceFirst + " OR " + paceSame + " OR " + paceOnTime + " THEN {old}interval_us" +
	" ELSE {greatest}({old}interval_us, {least}({old}interval_us + 5000000, 60000000)) END,\n\t" +

	"CASE WHEN " + paceFirst + " THEN {now} WHEN " + paceSame + " THEN {old}on_time WHEN " + paceOnTime + " THEN {now} ELSE {old}on_time END,\n\t" +

	"CASE WHEN " + paceSame + " THEN {old}last_poll ELSE {now} END,\n\t" +

	"CASE WHEN " + paceFirst + " THEN {old}repeated WHEN " + paceSame + " THEN true ELSE false END"

const (
	paceFirst  = "{old}last_poll IS NULL"
	paceSame   = "(abs({now} - {old}last_poll) * 10 < {least}({old}interval_us, 2500000) AND NOT {old}repeated)"
	paceOnTime = "(({now} - {old}last_poll) * 10 <= -{least}({old}interval_us, 2500000) OR {old}on_time IS NULL OR " + paceDue + ")"
	paceDue    = "({now} - {old}on_time) * 5 >= {old}interval_us * 5 - {least}({old}interval_us, 5000000)"

	// pacePlain is all that is to be found out about a poll that is on time and comes later
	// than the last: it is neither that once more nor too early.
	pacePlain = "({now} - {old}last_poll) * 10 >= {least}({old}interval_us, 2500000) AND " + paceDue
)

// withPace fills the pace into a statement: {next of g} after the first poll of the
// grant g, {next of p} after one of which the poll before is p, and {plain after p}, whether
// the poll after p is plainly on time.
func withPace(statement, now, least, greatest string) string {
	fill := func(text, old string) string {
		return strings.NewReplacer("{old}", old, "{now}", now, "{least}", least, "{greatest}", greatest).Replace(text)
	}
	return strings.NewReplacer(
		"{next of g}", fill(nextPace, "g."), "{next of p}", fill(nextPace, "p."), "{plain after p}", fill(pacePlain, "p."),
	).Replace(statement)
}
