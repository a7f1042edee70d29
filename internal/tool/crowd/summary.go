//go:build linux

package crowd

import (
	"maps"
	"slices"
)

// summarize makes the report's figures of what was measured. The first of the series
// is the server that only accepts.
func (r *Report) summarize(all []series) {
	r.ClientEnd = clientEnd(all[0])
	for _, s := range all {
		if len(s.rounds) > 0 || len(s.stops) > 0 {
			r.Servers = append(r.Servers, s.summary(r.ClientEnd))
		}
	}
}

// clientEnd is half of what a connection costs the kernel. Both ends consist of the
// same objects, where a server does no more than to accept: a socket, its inode, its
// file, its name.
func clientEnd(bare series) float64 {
	var points []Point
	var each []float64
	for _, samples := range bare.rounds {
		for _, s := range samples {
			if s.connected > 0 {
				points = append(points, Point{float64(s.connected), float64(s.kernel.Sum())})
				each = append(each, float64(s.kernel.Sum())/float64(s.connected))
			}
		}
	}
	if f, ok := FitLine(points); ok {
		return f.Slope / 2
	}
	return ranged(each).Median / 2
}

func (s series) summary(clientEnd float64) Server {
	server := Server{Name: s.target.Name, Stops: s.stops, Queues: s.target.OneByOne}
	var user, kernel, threads []Point
	for _, asked := range slices.Sorted(maps.Keys(s.rounds)) {
		samples := s.rounds[asked]
		server.Size = append(server.Size, s.size(samples, clientEnd))
		for _, one := range samples {
			if one.partial(s.target) {
				continue
			}
			n := float64(one.connected)
			user = append(user, Point{n, float64(one.user)})
			kernel = append(kernel, Point{n, float64(one.kernel.Sum()) - clientEnd*n})
			threads = append(threads, Point{n, float64(one.threads)})
		}
	}
	if f, ok := FitLine(user); ok {
		server.User = &f
	}
	if f, ok := FitLine(kernel); ok {
		server.Kernel = &f
	}
	if f, ok := FitLine(threads); ok {
		server.Threads = &f
	}
	server.Projections = s.projections(server.User, server.Kernel)
	if len(s.left) > 0 {
		server.Left = &Left{
			Threads: int(middle(s.left, func(l Left) float64 { return float64(l.Threads) })),
			User:    middle(s.left, func(l Left) float64 { return l.User }),
		}
	}
	return server
}

func (s series) projections(user, kernel *Fit) []Projection {
	if user == nil || kernel == nil || s.target.OneByOne {
		return nil
	}
	var all []Projection
	for _, n := range Projected {
		p := Projection{Conns: n, User: user.At(float64(n)), Kernel: kernel.At(float64(n))}
		if s.target.Most > 0 && n > s.target.Most {
			p.Not = s.target.Why
		}
		all = append(all, p)
	}
	return all
}

func (s series) size(samples []sample, clientEnd float64) Size {
	integer := func(of func(sample) int) int {
		return int(middle(samples, func(one sample) float64 { return float64(of(one)) }))
	}
	size := Size{
		Asked:     samples[0].asked,
		Connected: integer(func(one sample) int { return one.connected }),
		Accepted:  integer(func(one sample) int { return one.accepted }),
		Threads:   integer(func(one sample) int { return one.threads }),
		Probe:     probes(samples),
	}
	size.Connect = duration(samples, func(one sample) float64 { return float64(one.connect) })
	size.Accept = duration(samples, func(one sample) float64 { return float64(one.accept) })
	size.Idle = over(samples, func(one sample) float64 { return one.idle })

	// What a process has is for those that it has accepted; what the kernel has, for
	// all, so that with some of each the one is not to be had from the other.
	n := float64(max(1, size.Weighed()))
	each := func(bytes func(sample) int64) func(sample) float64 {
		return func(one sample) float64 { return float64(bytes(one)) / n }
	}
	size.User = over(samples, each(func(one sample) int64 { return one.user }))
	if samples[0].partial(s.target) {
		return size
	}
	both := each(func(one sample) int64 { return one.kernel.Sum() })
	size.Both = over(samples, both)
	size.End = over(samples, func(one sample) float64 { return both(one) - clientEnd })
	size.Parts = Parts{
		Slab:    middle(samples, each(func(one sample) int64 { return one.kernel.Slab })),
		Stacks:  middle(samples, each(func(one sample) int64 { return one.kernel.Stacks })),
		Tables:  middle(samples, each(func(one sample) int64 { return one.kernel.Tables })),
		Buffers: middle(samples, each(func(one sample) int64 { return one.kernel.Buffers })),
	}
	size.Machine = over(samples, each(func(one sample) int64 { return -one.kernel.Available }))
	if shrunk := each(func(one sample) int64 { return one.shrunk.Sum() }); shrunk(samples[0]) != 0 {
		r := over(samples, shrunk)
		size.Shrunk = &r
	}
	return size
}

// probes is the probes of all rounds: the median of the medians, the worst of the
// worst.
func probes(samples []sample) Probe {
	var p Probe
	var answered []sample
	for _, one := range samples {
		p.Asked += one.probe.Asked
		p.Answered += one.probe.Answered
		p.Max = max(p.Max, one.probe.Max)
		if one.probe.Answered > 0 {
			answered = append(answered, one)
		}
	}
	if len(answered) > 0 {
		p.Median = duration(answered, func(one sample) float64 { return float64(one.probe.Median) })
	}
	return p
}
