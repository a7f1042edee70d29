//go:build linux

package check

import "lesson/internal/play"

var fairness = []Case{
	{
		Address: "fairness/flooder", Severity: Must, Models: concurrent,
		Chapter: edgeTriggered, Contract: "B10", FailedBy: []string{"09-flooder"},
		alone: true,
		Must:  "Clients that send without end after their request do not starve the others.",
		Why: "A loop that reads until EAGAIN never ends while bytes come faster than it reads, and" +
			" it serves no other client meanwhile.",
		Cause:  "No limit on how much is read from one connection in one turn, or in total.",
		script: []step{flooding("send a whole request and then bytes without end", pour(whole)), othersServed()},
	},
	{
		Address: "fairness/endless-request", Severity: Must, Models: concurrent,
		Chapter: edgeTriggered, Contract: "B10", FailedBy: []string{"09-flooder"},
		alone:  true,
		Must:   "Clients whose request never ends do not starve the others.",
		Why:    "The loop must read from them before there is anything to answer, and has no turn for the others.",
		Cause:  "No limit on the size of a request, or on how much is read in one turn.",
		script: []step{flooding("send a request that never ends", pour(endlessRequest)), othersServed()},
	},
	{
		Address: "fairness/connector", Severity: Must, Models: concurrent,
		Chapter: edgeTriggered, Contract: "B10", FailedBy: []string{"15-blocking-call"},
		alone: true,
		Must: "Clients that connect and reset as fast as they can do not starve the clients that are" +
			" connected.",
		Why:   "A loop that accepts until EAGAIN never ends while connections come faster than it accepts.",
		Cause: "No limit on how many connections are accepted in one turn.",
		script: []step{
			many(probes, half), allTaken(),
			flooding("connect and reset", connectAndReset), crowdSends(rest), crowdAnswered(),
		},
	},
}

func connectAndReset(_ *flood, c *play.Conn) error { return c.Reset() }
