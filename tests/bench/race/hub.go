package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/yamux"
	"github.com/rancher/remotedialer"
)

const clientKey = "bench"

type dial func(ctx context.Context, network, address string) (net.Conn, error)

func serveHub(o options) error {
	config, err := serverConfig(o)
	if err != nil {
		return err
	}
	front, err := listen(o.front, config)
	if err != nil {
		return err
	}
	tunnel, err := listen(o.tunnel, config)
	if err != nil {
		return err
	}
	through := acceptYamux
	if o.mux == "rd" {
		through = acceptRemotedialer
	}
	handler, err := newProxy(o, through(tunnel))
	if err != nil {
		return err
	}
	if err := announce(map[string]any{
		"port": front.Addr().(*net.TCPAddr).Port, "tunnel_port": tunnel.Addr().(*net.TCPAddr).Port,
	}); err != nil {
		return err
	}
	return http.Serve(front, handler)
}

// newProxy is what Rancher's proxy handler comes down to: a ReverseProxy with the cluster's token, its CA, and a transport
// that dials through the tunnel. Users are not authenticated here, which is to the peers' advantage.
func newProxy(o options, through dial) (http.Handler, error) {
	pool, err := roots(o.targetCA)
	if err != nil {
		return nil, err
	}
	bearer, err := token(o.targetToken)
	if err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(request *httputil.ProxyRequest) {
			request.Out.URL.Scheme, request.Out.URL.Host = "https", o.target
			request.Out.URL.Path = strings.TrimPrefix(request.In.URL.Path, o.prefix)
			request.Out.Host = o.target
			request.Out.Header.Set("Authorization", bearer)
			request.Out.Header.Set("Impersonate-User", "bench")
		},
		Transport: &http.Transport{
			DialContext:         through,
			TLSClientConfig:     &tls.Config{RootCAs: pool},
			TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{},
			MaxIdleConns:        o.pool,
			MaxIdleConnsPerHost: o.pool,
		},
	}, nil
}

func acceptRemotedialer(listener net.Listener) dial {
	server := remotedialer.New(
		func(*http.Request) (string, bool, error) { return clientKey, true, nil }, remotedialer.DefaultErrorWriter)
	go func() { _ = http.Serve(listener, server) }()
	dialer := server.Dialer(clientKey)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return dialer(ctx, network, address)
	}
}

// acceptYamux keeps every session and dials through the oldest that lives, as remotedialer does with those of one client.
func acceptYamux(listener net.Listener) dial {
	var mutex sync.Mutex
	var sessions []*yamux.Session
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			if opened, err := yamux.Client(connection, yamuxConfig()); err == nil {
				mutex.Lock()
				sessions = append(sessions, opened)
				mutex.Unlock()
			}
		}
	}()
	return func(context.Context, string, string) (net.Conn, error) {
		mutex.Lock()
		sessions = slices.DeleteFunc(sessions, (*yamux.Session).IsClosed)
		var opened *yamux.Session
		if len(sessions) > 0 {
			opened = sessions[0]
		}
		mutex.Unlock()
		if opened == nil {
			return nil, net.ErrClosed
		}
		return opened.Open()
	}
}
