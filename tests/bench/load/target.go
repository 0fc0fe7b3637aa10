package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

const echoPath = "/api/v1/namespaces/bench/pods/echo/exec"

// serve is the stand-in API server: small objects, big bodies, a sink, and an upgrade that echoes.
func serve(listen, cert, key string) error {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return err
	}
	small := bytes.Repeat([]byte("x"), 1024)
	chunk := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/bench/configmaps/small", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Audit-Id", "6f0f2b1e-0000-4000-8000-000000000000")
		w.Header().Set("Content-Length", "1024")
		_, _ = w.Write(small)
	})
	// Plain text, as logs are: no tunnel compresses it, so that its rows measure what moving bytes costs.
	mux.HandleFunc("GET /api/v1/namespaces/bench/configmaps/big", func(w http.ResponseWriter, r *http.Request) {
		left, err := strconv.ParseInt(r.URL.Query().Get("bytes"), 10, 64)
		if err != nil {
			http.Error(w, "bytes", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", strconv.FormatInt(left, 10))
		for left > 0 {
			n, err := w.Write(chunk[:min(left, int64(len(chunk)))])
			if err != nil {
				return
			}
			left -= int64(n)
		}
	})
	sink := func(w http.ResponseWriter, r *http.Request) {
		var n int64
		var err error
		sum := sha256.New()
		if r.ContentLength < 4<<20 {
			n, err = io.Copy(sum, r.Body)
		} else {
			n, err = io.Copy(io.Discard, r.Body)
		}
		if err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"bytes":%d,"sha256":"%x"}`, n, sum.Sum(nil))
	}
	mux.HandleFunc("POST /api/v1/namespaces/bench/configmaps", sink)
	mux.HandleFunc("POST "+uploadPath, sink)
	mux.HandleFunc(echoPath, echo)
	mux.HandleFunc("GET "+listPath, pods(podList(11_000_000)))
	listener, err := tls.Listen("tcp", listen, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"port": listener.Addr().(*net.TCPAddr).Port}); err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() { <-stop; os.Exit(0) }()
	server := &http.Server{Handler: mux}
	cold := make(chan os.Signal, 1)
	signal.Notify(cold, syscall.SIGUSR1)
	go func() {
		for range cold { // SIGUSR1 closes what callers have pooled: their next request is a first one
			server.SetKeepAlivesEnabled(false)
			server.SetKeepAlivesEnabled(true)
		}
	}()
	return server.Serve(listener)
}

// echo answers 101 and returns every byte: the shape of exec without its framing.
func echo(w http.ResponseWriter, r *http.Request) {
	connection, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer connection.Close()
	_, _ = fmt.Fprintf(connection, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: %s\r\nConnection: Upgrade\r\n\r\n", r.Header.Get("Upgrade"))
	_, _ = io.Copy(connection, buffered)
}
