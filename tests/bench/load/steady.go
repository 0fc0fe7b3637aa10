package main

import (
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	steadyInterval = 20 * time.Millisecond
	// patience is how long a request may take before the time that it goes on counts as lost.
	patience = time.Second
)

type span struct{ from, to time.Duration }

// askSteadily begins a small GET every 20 ms, whether or not the last one was answered, and tells for how long requests
// failed or hung: the union of the times of failed ones, and of what slow ones took beyond a second.
func askSteadily(o options) (any, error) {
	client, bearer, err := o.client()
	if err != nil {
		return nil, err
	}
	client.Timeout = 3 * o.duration
	var lost []span
	var samples []time.Duration
	failures := 0
	var group sync.WaitGroup
	started := time.Now()
	for ticks := time.NewTicker(steadyInterval); time.Since(started) < o.duration; <-ticks.C {
		request, err := o.request(http.MethodGet, smallPath, bearer, nil)
		if err != nil {
			return nil, err
		}
		group.Add(1)
		go func() {
			defer group.Done()
			began := time.Since(started)
			_, status, err := exchange(client, request)
			ended := time.Since(started)
			o.locked(func() {
				samples = append(samples, ended-began)
				if err != nil || status != http.StatusOK {
					failures++
					lost = append(lost, span{began, ended})
				} else if ended-began > patience {
					lost = append(lost, span{began + patience, ended})
				}
			})
		}()
	}
	group.Wait()
	return map[string]any{"requests": len(samples), "failures": failures, "lost_seconds": union(lost).Seconds(),
		"latency": summarise(samples)}, nil
}

func union(spans []span) time.Duration {
	slices.SortFunc(spans, func(a, b span) int { return int(a.from - b.from) })
	var total, end time.Duration
	for _, each := range spans {
		if from := max(each.from, end); each.to > from {
			total += each.to - from
		}
		end = max(end, each.to)
	}
	return total
}
