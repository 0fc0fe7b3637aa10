package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	segment = 16 << 10
	queued  = 64
	// Else the kernel would take megabytes off the sender's hands, as no link does.
	receiveBuffer = 64 << 10
	// A sleep ends late, the more so on a busy machine: what it took too long is made up for, or the link would be
	// slower than said, and slower still for who writes in small pieces.
	catchUp = 4 * time.Millisecond
)

// relay forwards TCP connections with a delay and a rate each way, and counts bytes: a slow link without privileges. The
// counts are served as JSON on a second port.
func relay(listen, to string, delay time.Duration, rate float64) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	counts, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var up, down atomic.Int64
	go func() {
		_ = http.Serve(counts, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"up":%d,"down":%d}`, up.Load(), down.Load())
		}))
	}()
	err = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"port": listener.Addr().(*net.TCPAddr).Port, "counts_port": counts.Addr().(*net.TCPAddr).Port,
	})
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() { <-stop; os.Exit(0) }()
	for {
		client, err := listener.Accept()
		if err != nil {
			return err
		}
		server, err := net.Dial("tcp", to)
		if err != nil {
			client.Close()
			continue
		}
		go carry(client, server, delay, rate, &up)
		go carry(server, client, delay, rate, &down)
	}
}

type piece struct {
	data []byte
	due  time.Time
}

// carry reads no faster than the rate and writes what it read after the delay; at most a megabyte is on the way.
func carry(from, to net.Conn, delay time.Duration, rate float64, count *atomic.Int64) {
	if narrow, ok := from.(*net.TCPConn); ok && rate > 0 {
		_ = narrow.SetReadBuffer(receiveBuffer)
	}
	pieces := make(chan piece, queued)
	go func() {
		defer close(pieces)
		free := time.Now()
		for {
			data := make([]byte, segment)
			n, err := from.Read(data)
			if n > 0 {
				if late := time.Now().Add(-catchUp); free.Before(late) {
					free = late
				}
				if rate > 0 {
					free = free.Add(time.Duration(float64(n) / rate * float64(time.Second)))
					time.Sleep(time.Until(free)) // a link has no room of its own: its sender must feel the rate
				}
				left := free
				if now := time.Now(); left.Before(now) {
					left = now
				}
				pieces <- piece{data[:n], left.Add(delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	for each := range pieces {
		time.Sleep(time.Until(each.due))
		count.Add(int64(len(each.data)))
		if _, err := to.Write(each.data); err != nil {
			break
		}
	}
	from.Close()
	to.Close()
	for range pieces {
	}
}
