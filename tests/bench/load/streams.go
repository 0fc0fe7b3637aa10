package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const listPath = "/api/v1/namespaces/bench/pods"

// measureLists reads whole LISTs of 11 MB on each connection until the time is over.
func measureLists(o options) (any, error) {
	client, bearer, err := o.client()
	if err != nil {
		return nil, err
	}
	var total int64
	var samples []time.Duration
	started := time.Now()
	err = o.parallel(func() error {
		for time.Since(started) < o.duration {
			request, err := o.request(http.MethodGet, listPath, bearer, nil)
			if err != nil {
				return err
			}
			began := time.Now()
			n, status, err := exchange(client, request)
			if err != nil || status != http.StatusOK {
				return fmt.Errorf("list: status %d: %w", status, err)
			}
			o.locked(func() { total += n; samples = append(samples, time.Since(began)) })
		}
		return nil
	})
	elapsed := time.Since(started).Seconds()
	return map[string]any{
		"megabytes": float64(total) / 1e6, "mb_per_second": float64(total) / 1e6 / elapsed, "latency": summarise(samples),
	}, err
}

// measureWatches holds the given number of watches and times each event from the API server's clock to here.
func measureWatches(o options) (any, error) {
	client, bearer, err := o.client()
	if err != nil {
		return nil, err
	}
	var samples []time.Duration
	deadline := time.Now().Add(o.duration)
	warm := time.Now().Add(time.Second)
	err = o.parallel(func() error {
		path := fmt.Sprintf("%s?watch=1&rate=%d&size=%d", listPath, o.rate, o.size)
		request, err := o.request(http.MethodGet, path, bearer, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		lines := bufio.NewReaderSize(response.Body, 64<<10)
		var mine []time.Duration
		for time.Now().Before(deadline) {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return err
			}
			now := time.Now()
			var event struct {
				Object struct {
					At int64 `json:"at"`
				} `json:"object"`
			}
			if err := json.Unmarshal(line, &event); err != nil {
				return err
			}
			if now.After(warm) {
				mine = append(mine, time.Duration(now.UnixNano()-event.Object.At))
			}
		}
		o.locked(func() { samples = append(samples, mine...) })
		return nil
	})
	return map[string]any{"events": len(samples), "latency": summarise(samples)}, err
}

// measureOpens upgrades, echoes one message and closes, over and over on each connection.
func measureOpens(o options) (any, error) {
	count := 0
	deadline := time.Now().Add(o.duration)
	started := time.Now()
	err := o.parallel(func() error {
		key, answer, mine := bytes.Repeat([]byte("k"), 64), make([]byte, 64), 0
		for time.Now().Before(deadline) {
			connection, reader, err := o.upgraded()
			if err != nil {
				return err
			}
			_, err = connection.Write(key)
			if err == nil {
				_, err = io.ReadFull(reader, answer)
			}
			connection.Close()
			if err != nil {
				return err
			}
			mine++
		}
		o.locked(func() { count += mine })
		return nil
	})
	return map[string]any{"opened": count, "per_second": float64(count) / time.Since(started).Seconds()}, err
}

// measureDuplex writes and reads one echo stream flat out and says what moved in each second.
func measureDuplex(o options) (any, error) {
	connection, reader, err := o.upgraded()
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	go func() {
		chunk := bytes.Repeat([]byte("d"), 64<<10)
		for {
			if _, err := connection.Write(chunk); err != nil {
				return
			}
		}
	}()
	seconds := make([]float64, int(o.duration.Seconds()))
	started := time.Now()
	buffer := make([]byte, 256<<10)
	for {
		_ = connection.SetReadDeadline(started.Add(o.duration))
		n, err := reader.Read(buffer)
		if at := int(time.Since(started).Seconds()); at < len(seconds) {
			seconds[at] += float64(n) / 1e6
		}
		if err != nil {
			break
		}
	}
	still, moved := 0, 0.0
	for _, each := range seconds {
		moved += each
		if each == 0 {
			still++
		}
	}
	return map[string]any{"mb_per_second": moved / o.duration.Seconds(), "seconds_at_zero": still}, nil
}

// probe asks every 20 ms and tells how long requests failed or hung, from the first failure to the last.
func probe(o options) (any, error) {
	client, bearer, err := o.client()
	if err != nil {
		return nil, err
	}
	client.Timeout = time.Second
	started := time.Now()
	var first, last time.Duration
	failures, requests := 0, 0
	for time.Since(started) < o.duration {
		request, err := o.request(http.MethodGet, smallPath, bearer, nil)
		if err != nil {
			return nil, err
		}
		began := time.Since(started)
		_, status, err := exchange(client, request)
		requests++
		if err != nil || status != http.StatusOK {
			if failures == 0 {
				first = began
			}
			failures, last = failures+1, time.Since(started)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return map[string]any{"requests": requests, "failures": failures, "failing_seconds": (last - first).Seconds()}, nil
}

// parallel runs one function per connection and returns the first error.
func (o options) parallel(run func() error) error {
	errs := make(chan error, o.connections)
	for range o.connections {
		go func() { errs <- run() }()
	}
	var failed error
	for range o.connections {
		failed = errors.Join(failed, <-errs)
	}
	return failed
}

var mutex sync.Mutex

func (o options) locked(run func()) {
	mutex.Lock()
	defer mutex.Unlock()
	run()
}
