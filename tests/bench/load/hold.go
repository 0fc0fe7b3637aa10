package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// dialsMax bounds the connections being opened at once: the hub refuses an address with more than 512 unread heads.
const dialsMax = 64

// holdWatches asks each of the clusters for a small object, opens the given number of watches over all of them, says so
// once each has shown its first event, and holds them until standard input ends. `o.url` ends where the cluster's name begins.
func holdWatches(o options, first, clusters int) (any, error) {
	raiseDescriptors()
	client, bearer, err := o.client()
	if err != nil {
		return nil, err
	}
	var failed error
	var ended atomic.Int64
	var group sync.WaitGroup
	places := make(chan struct{}, dialsMax)
	started := time.Now()
	for number := range o.connections {
		places <- struct{}{}
		group.Add(1)
		go func() {
			defer group.Done()
			defer func() { <-places }()
			cluster := o
			cluster.url = fmt.Sprintf("%s%d", o.url, first+number%clusters)
			err := cluster.holdWatch(client, bearer, number < clusters, &ended)
			o.locked(func() { failed = errors.Join(failed, err) })
		}()
	}
	group.Wait()
	if failed != nil {
		return nil, failed
	}
	held := map[string]any{"held": o.connections, "seconds": time.Since(started).Seconds()}
	if err := json.NewEncoder(os.Stdout).Encode(held); err != nil {
		return nil, err
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return map[string]any{"ended": ended.Load()}, nil
}

// holdWatch returns once the watch has shown its first event; the watch lives on.
func (o options) holdWatch(client *http.Client, bearer string, ask bool, ended *atomic.Int64) error {
	if ask {
		request, err := o.request(http.MethodGet, smallPath, bearer, nil)
		if err != nil {
			return err
		}
		if _, status, err := exchange(client, request); err != nil || status != http.StatusOK {
			return fmt.Errorf("get: status %d: %w", status, err)
		}
	}
	request, err := o.request(http.MethodGet, "/api/v1/configmaps?watch=1", bearer, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
		return fmt.Errorf("watch: status %d: %s", response.StatusCode, text)
	}
	lines := bufio.NewReaderSize(response.Body, 512)
	if _, err := lines.ReadBytes('\n'); err != nil {
		return err
	}
	go func() {
		defer response.Body.Close()
		for {
			if _, err := lines.ReadBytes('\n'); err != nil {
				ended.Add(1)
				return
			}
		}
	}()
	return nil
}

func raiseDescriptors() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
}
