//go:build race

package integration

// raceFlag builds the programs as the tests were: a race ends them with code 66.
const raceFlag = "-race=true"
