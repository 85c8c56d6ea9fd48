// What the scripts tell the tests: each thing as JSON on one line.
export const say = (what) => console.log(JSON.stringify(what))

// fail tells how a login ended, and ends the program. The cause has the system's word for a
// lost connection.
export function fail(err) {
  say({ failed: { error: err.error, code: err.code, cause: err.cause?.code } })
  process.exit(1)
}
