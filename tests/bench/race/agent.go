package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
	"github.com/hashicorp/yamux"
	"github.com/rancher/remotedialer"
)

func serveAgent(o options) error {
	var config *tls.Config
	if o.ca != "" {
		pool, err := roots(o.ca)
		if err != nil {
			return err
		}
		config = &tls.Config{RootCAs: pool, NextProtos: []string{"http/1.1"}}
	}
	if err := announce(map[string]any{"mux": o.mux}); err != nil {
		return err
	}
	run := runRemotedialer
	if o.mux == "yamux" {
		run = runYamux
	}
	for range o.tunnels - 1 {
		go func() { _ = run(o, config) }()
	}
	return run(o, config)
}

// runRemotedialer connects as rancher/rancher's cmd/agent does, and dials whatever the hub names.
func runRemotedialer(o options, config *tls.Config) error {
	scheme := "ws"
	if config != nil {
		scheme = "wss"
	}
	dialer := &websocket.Dialer{TLSClientConfig: config, HandshakeTimeout: remotedialer.HandshakeTimeOut}
	anything := func(string, string) bool { return true }
	for {
		_ = remotedialer.ClientConnect(
			context.Background(), scheme+"://"+o.tunnel+"/connect", http.Header{}, dialer, anything, nil)
	}
}

func yamuxConfig() *yamux.Config {
	config := yamux.DefaultConfig()
	config.LogOutput = io.Discard
	return config
}

func runYamux(o options, config *tls.Config) error {
	for {
		connection, err := dialHub(o.tunnel, config)
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		session, err := yamux.Server(connection, yamuxConfig())
		if err != nil {
			return err
		}
		for {
			stream, err := session.Accept()
			if err != nil {
				break
			}
			go forward(stream, o.target)
		}
	}
}

func dialHub(address string, config *tls.Config) (net.Conn, error) {
	if config == nil {
		return net.Dial("tcp", address)
	}
	return tls.Dial("tcp", address, config)
}

func forward(stream net.Conn, target string) {
	defer stream.Close()
	upstream, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer upstream.Close()
	done := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(upstream, stream); done <- struct{}{} }()
	go func() { _, _ = io.Copy(stream, upstream); done <- struct{}{} }()
	<-done
}
