// Command race runs riata's peers for `make bench-race`: a hub that is Go's httputil.ReverseProxy and an agent that dials
// it, joined by rancher/remotedialer (the way of the Rancher server and its cluster agent) or by hashicorp/yamux (the
// fastest Go multiplexer). The hub speaks TLS to the API server through the tunnel, as Rancher does.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/sirupsen/logrus"
)

type options struct {
	mux, front, tunnel, cert, key, ca string
	target, targetCA, targetToken     string
	prefix                            string
	pool, tunnels                     int
}

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: race hub|agent [flags]"))
	}
	logrus.SetOutput(io.Discard)
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	var o options
	flags.StringVar(&o.mux, "mux", "rd", "rd (remotedialer) or yamux")
	flags.StringVar(&o.front, "front", "127.0.0.1:0", "hub: address for users")
	flags.StringVar(&o.tunnel, "tunnel", "127.0.0.1:0", "hub: address for the agent; agent: the hub's")
	flags.StringVar(&o.cert, "cert", "", "hub: certificate of both listeners; none is plain TCP")
	flags.StringVar(&o.key, "key", "", "hub: key of the certificate")
	flags.StringVar(&o.ca, "ca", "", "agent: CA of the hub; none is plain TCP")
	flags.StringVar(&o.target, "target", "", "host:port of the API server")
	flags.StringVar(&o.targetCA, "target-ca", "", "hub: CA of the API server")
	flags.StringVar(&o.targetToken, "target-token-file", "", "hub: token for the API server")
	flags.StringVar(&o.prefix, "prefix", "/k8s/clusters/bench", "hub: path in front of the API server's")
	flags.IntVar(&o.pool, "pool", 100, "hub: idle connections kept to the API server")
	flags.IntVar(&o.tunnels, "tunnels", 1, "agent: how many tunnels")
	if err := flags.Parse(os.Args[2:]); err != nil {
		fail(err)
	}
	var err error
	switch os.Args[1] {
	case "hub":
		err = serveHub(o)
	case "agent":
		err = serveAgent(o)
	default:
		err = fmt.Errorf("unknown command %q", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "race:", err)
	os.Exit(1)
}

// announce prints one JSON object, and ends the process on a signal.
func announce(what map[string]any) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() { <-stop; os.Exit(0) }()
	return json.NewEncoder(os.Stdout).Encode(what)
}

func listen(address string, config *tls.Config) (net.Listener, error) {
	if config == nil {
		return net.Listen("tcp", address)
	}
	return tls.Listen("tcp", address, config)
}

func serverConfig(o options) (*tls.Config, error) {
	if o.cert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}, nil
}

func roots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", file)
	}
	return pool, nil
}

func token(file string) (string, error) {
	text, err := os.ReadFile(file)
	return "Bearer " + strings.TrimSpace(string(text)), err
}
