//go:build linux

package bench

import (
	"fmt"
	"slices"
	"strings"

	"lesson/internal/report"
)

// Notes returns what a reader must know about the figures, a paragraph each.
func (r *Report) Notes() []string {
	notes := slices.Concat(r.failures(), r.saturation(), r.disturbance(), r.shakiness(), r.bounds(), r.others(), r.Remarks)
	if r.Missing > 0 {
		notes = append(notes, "The run was interrupted: "+
			report.Plural(r.Missing, "round is missing", "rounds are missing")+".")
	}
	return notes
}

// failures lists the servers that failed clients.
func (r *Report) failures() []string {
	var notes []string
	for i := range r.Servers {
		server := &r.Servers[i]
		if server.Ended != "" {
			notes = append(notes, fmt.Sprintf("%s ended while it was measured: %s. Its figures are from before.",
				server.Name, server.Ended))
		}
		for j := range server.Sizes {
			s := &server.Sizes[j]
			if s.failure() == "" {
				continue
			}
			served := report.Thousands(s.served())
			note := fmt.Sprintf("%s, %s at a time: %s requests were answered correctly; the others: %s."+
				" The figures are only for the correct ones.", server.Name, connections(s.Conns), served, s.failure())
			if s.Hopeless {
				note += fmt.Sprintf(" A round ends when %d requests in a row have failed.", hopeless)
			}
			if s.Unsent > 0 {
				note += " (Never sent: they were due, but no client was free until the round was over." +
					" The server does not keep up with the rate, or --conns is too small for it.)"
			}
			notes = append(notes, note)
		}
	}
	return notes
}

// saturation lists where the client was the bottleneck.
func (r *Report) saturation() []string {
	var where []string
	for _, conns := range r.conns() {
		var names []string
		r.each(conns, func(server *Server, s *Size) {
			if s.Saturated {
				names = append(names, fmt.Sprintf("%s (%s)", server.Name, percent(s.Busy)))
			}
		})
		if len(names) > 0 {
			where = append(where, fmt.Sprintf("%d at a time: %s", conns, strings.Join(names, ", ")))
		}
	}
	if len(where) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("The client was saturated: for over %s of the time it was on its processor, or"+
		" waiting for one. With %s. There, requests/s shows how fast the client was. The server could have answered as"+
		" many or more, so the figure has a ≥, and does not rank the servers. Latencies include waiting for the"+
		" client. The CPU time of a request is still the server's own: compare that.",
		percent(saturatedAt), strings.Join(where, "; with "))}
}

// disturbedAt is the share of the processors that other programs may use before the
// report warns of it.
const disturbedAt = 0.05

// disturbance reports how much of the processors other programs used.
func (r *Report) disturbance() []string {
	var notes []string
	if r.Others > disturbedAt {
		notes = append(notes, fmt.Sprintf("Other programs used %s of the two processors during the rounds. Requests/s"+
			" and latencies are worse because of that, and do not describe the servers; CPU time is affected less."+
			" Stop the other programs, and measure again.", percent(r.Others)))
	}
	if r.Stolen > disturbedAt {
		notes = append(notes, fmt.Sprintf("This is a virtual machine, and its host gave %s of the two processors to"+
			" others (steal).", percent(r.Stolen)))
	}
	return notes
}

// shakiness lists the figures that differ widely from round to round.
func (r *Report) shakiness() []string {
	var shaky []string
	for i := range r.Servers {
		for j := range r.Servers[i].Sizes {
			s := &r.Servers[i].Sizes[j]
			if s.CPU.wide() {
				shaky = append(shaky, fmt.Sprintf("%s with %d (%.1f to %.1f µs)",
					r.Servers[i].Name, s.Conns, s.CPU.Low, s.CPU.High))
			}
		}
	}
	if len(shaky) == 0 {
		return nil
	}
	return []string{"The rounds differ widely in CPU time; the middle half of them: " + strings.Join(shaky, ", ") + "." +
		" Other programs were busy on the machine. The ratios are affected less, because they are taken within a" +
		" round. Do not trust a difference that is smaller than their quartiles, and measure again when the" +
		" machine is quiet."}
}

// bounds lists the limits of the machine that were reached.
func (r *Report) bounds() []string {
	var notes []string
	if r.ServerCPU == anyProcessor {
		notes = append(notes, "There is only one processor for both sides: while the client runs, the server"+
			" cannot. The CPU time of a request is still the server's own.")
	}
	most := r.Limits.MostWaiting
	if n := r.Kernel.NoTimeWait; n > 0 {
		notes = append(notes, fmt.Sprintf("More than %s connections were in TIME_WAIT (net.ipv4.tcp_max_tw_buckets)."+
			" So the kernel dropped %s connections at once instead of keeping them for a minute, which is a little"+
			" less work for the server that closed them. All servers are measured in turn, so this affects all of"+
			" them.",
			report.Thousands(most), report.Thousands(n)))
	} else if most > 0 && r.Limits.TimeWait > most*9/10 {
		notes = append(notes, fmt.Sprintf("There were %s connections in TIME_WAIT before the first round, and the"+
			" kernel keeps at most %s (net.ipv4.tcp_max_tw_buckets). Each lasts a minute.",
			report.Thousands(r.Limits.TimeWait), report.Thousands(most)))
	}
	if n := r.Kernel.QueueFull; n > 0 {
		notes = append(notes, fmt.Sprintf("%s times a client found an accept queue full, and tried again a second"+
			" later: such a latency is 1 s or more. Does the server ask for a long queue (the backlog of"+
			" listen)? The kernel allows %s (net.core.somaxconn). This counts the whole machine.",
			report.Thousands(n), report.Thousands(r.Limits.Backlog)))
	}
	return notes
}

// others reports what is different about a server that is not a lesson.
func (r *Report) others() []string {
	var notes []string
	for i := range r.Servers {
		server := &r.Servers[i]
		if server.Answer != "" {
			notes = append(notes, fmt.Sprintf("The answer of %s differs from the lessons': %s.", server.Name, server.Answer))
		}
		for j := range server.Sizes {
			if why := server.Sizes[j].NotCalls; why != "" {
				notes = append(notes, fmt.Sprintf("The system calls of %s were not counted: %s.", server.Name, why))
				break
			}
		}
	}
	return notes
}
