package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const smallPath = "/api/v1/namespaces/bench/configmaps/small"

// uploadPath is a proxied service: the API itself takes no body of this size, and neither does a hub for it.
const uploadPath = "/api/v1/namespaces/bench/services/sink/proxy/upload"

type latency struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
	N   int     `json:"samples"`
}

func (o options) config() (*tls.Config, string, error) {
	pem, err := os.ReadFile(o.ca)
	if err != nil {
		return nil, "", err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, "", fmt.Errorf("no certificate in %s", o.ca)
	}
	token, err := os.ReadFile(o.token)
	if err != nil {
		return nil, "", err
	}
	return &tls.Config{RootCAs: roots}, "Bearer " + strings.TrimSpace(string(token)), nil
}

// client has one connection pool of its own, HTTP/1.1, no decompression.
func (o options) client() (*http.Client, string, error) {
	config, bearer, err := o.config()
	if err != nil {
		return nil, "", err
	}
	transport := &http.Transport{
		TLSClientConfig: config, MaxIdleConnsPerHost: o.connections, DisableCompression: true,
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
	return &http.Client{Transport: transport}, bearer, nil
}

func (o options) request(method, path, bearer string, body io.Reader) (*http.Request, error) {
	request, err := http.NewRequest(method, o.url+path, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", bearer)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "load/1")
	return request, nil
}

func summarise(samples []time.Duration) latency {
	if len(samples) == 0 {
		return latency{}
	}
	slices.Sort(samples)
	at := func(q float64) float64 { return float64(samples[int(q*float64(len(samples)-1))].Microseconds()) / 1000 }
	return latency{P50: at(0.5), P99: at(0.99), Max: at(1), N: len(samples)}
}

// measureGets keeps the given number of connections busy with small GETs for the duration.
func measureGets(o options) (any, error) {
	client, bearer, err := o.client()
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(o.duration)
	var mutex sync.Mutex
	var all []time.Duration
	var failed error
	var group sync.WaitGroup
	started := time.Now()
	for range o.connections {
		group.Add(1)
		go func() {
			defer group.Done()
			samples, err := getUntil(client, o, bearer, deadline)
			mutex.Lock()
			defer mutex.Unlock()
			all = append(all, samples...)
			if err != nil {
				failed = err
			}
		}()
	}
	group.Wait()
	elapsed := time.Since(started).Seconds()
	if failed != nil {
		return nil, failed
	}
	return map[string]any{"requests": len(all), "seconds": elapsed, "per_second": float64(len(all)) / elapsed, "latency": summarise(all)}, nil
}

func getUntil(client *http.Client, o options, bearer string, deadline time.Time) ([]time.Duration, error) {
	var samples []time.Duration
	for time.Now().Before(deadline) {
		request, err := o.request(http.MethodGet, smallPath, bearer, nil)
		if err != nil {
			return samples, err
		}
		started := time.Now()
		n, status, err := exchange(client, request)
		if err != nil {
			return samples, err
		}
		if status != http.StatusOK || n != 1024 {
			return samples, fmt.Errorf("status %d with %d bytes", status, n)
		}
		samples = append(samples, time.Since(started))
	}
	return samples, nil
}

func exchange(client *http.Client, request *http.Request) (int64, int, error) {
	response, err := client.Do(request)
	if err != nil {
		return 0, 0, err
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	return n, response.StatusCode, err
}

func (o options) bigPath() string {
	return fmt.Sprintf("/api/v1/namespaces/bench/configmaps/big?bytes=%d", o.bytes)
}

// measureDownload moves one body of the given size on each connection.
func measureDownload(o options) (any, error) {
	return o.transfer(func(bearer string) (*http.Request, error) {
		return o.request(http.MethodGet, o.bigPath(), bearer, nil)
	}, func(n int64) error {
		if n != o.bytes {
			return fmt.Errorf("short body: %d of %d", n, o.bytes)
		}
		return nil
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func measureUpload(o options) (any, error) {
	return o.transfer(func(bearer string) (*http.Request, error) {
		request, err := o.request(http.MethodPost, uploadPath, bearer, io.LimitReader(zeros{}, o.bytes))
		if err == nil {
			request.ContentLength = o.bytes
			request.Header.Set("Content-Type", "application/json")
		}
		return request, err
	}, func(int64) error { return nil })
}

func (o options) transfer(build func(string) (*http.Request, error), check func(int64) error) (any, error) {
	client, bearer, err := o.client()
	if err != nil {
		return nil, err
	}
	errs := make(chan error, o.connections)
	started := time.Now()
	for range o.connections {
		go func() {
			request, err := build(bearer)
			if err != nil {
				errs <- err
				return
			}
			n, status, err := exchange(client, request)
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("status %d", status)
			}
			if err == nil {
				err = check(n)
			}
			errs <- err
		}()
	}
	for range o.connections {
		if err := <-errs; err != nil {
			return nil, err
		}
	}
	elapsed := time.Since(started).Seconds()
	total := float64(o.bytes) * float64(o.connections) / 1e6
	return map[string]any{"megabytes": total, "seconds": elapsed, "mb_per_second": total / elapsed}, nil
}

// dial connects to the front of a way, which speaks TLS unless its address says http.
func dial(base *url.URL, config *tls.Config) (net.Conn, error) {
	if base.Scheme == "http" {
		return net.Dial("tcp", base.Host)
	}
	config.NextProtos = []string{"http/1.1"}
	return tls.Dial("tcp", base.Host, config)
}

// upgraded opens an echo stream and returns once the 101 was read.
func (o options) upgraded() (net.Conn, *bufio.Reader, error) {
	config, bearer, err := o.config()
	if err != nil {
		return nil, nil, err
	}
	base, err := url.Parse(o.url)
	if err != nil {
		return nil, nil, err
	}
	connection, err := dial(base, config)
	if err != nil {
		return nil, nil, err
	}
	head := fmt.Sprintf("POST %s%s?command=cat&stdin=true HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"+
		"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n", base.Path, echoPath, base.Host, bearer)
	if _, err := connection.Write([]byte(head)); err != nil {
		return nil, nil, err
	}
	reader := bufio.NewReader(connection)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return nil, nil, err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
		return nil, nil, fmt.Errorf("status %d: %s", response.StatusCode, text)
	}
	return connection, reader, nil
}

// measureKeystrokes sends 64 bytes every 10 ms and waits for their echo, beside any number of endless downloads.
func measureKeystrokes(o options) (any, error) {
	connection, reader, err := o.upgraded()
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	stop := make(chan struct{})
	var group sync.WaitGroup
	var mutex sync.Mutex
	var moved int64
	began := time.Now()
	for range o.background {
		group.Add(1)
		go func() {
			defer group.Done()
			n := downloadUntil(o, stop)
			mutex.Lock()
			moved += n
			mutex.Unlock()
		}()
	}
	if o.background > 0 {
		time.Sleep(500 * time.Millisecond)
	}
	started := time.Now()
	samples, err := typeUntil(connection, reader, started.Add(o.duration))
	close(stop)
	group.Wait()
	elapsed := time.Since(began).Seconds()
	if err != nil {
		return nil, err
	}
	return map[string]any{"latency": summarise(samples), "background_mb_per_second": float64(moved) / 1e6 / elapsed}, nil
}

func typeUntil(connection net.Conn, reader *bufio.Reader, deadline time.Time) ([]time.Duration, error) {
	key := bytes.Repeat([]byte("k"), 64)
	answer := make([]byte, len(key))
	var samples []time.Duration
	for time.Now().Before(deadline) {
		started := time.Now()
		if _, err := connection.Write(key); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(reader, answer); err != nil {
			return nil, err
		}
		samples = append(samples, time.Since(started))
		time.Sleep(10 * time.Millisecond)
	}
	return samples, nil
}

func downloadUntil(o options, stop chan struct{}) int64 {
	client, bearer, err := o.client()
	if err != nil {
		return 0
	}
	o.bytes = 1 << 40
	request, err := o.request(http.MethodGet, o.bigPath(), bearer, nil)
	if err != nil {
		return 0
	}
	response, err := client.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	var moved int64
	buffer := make([]byte, 64<<10)
	for {
		select {
		case <-stop:
			return moved
		default:
		}
		n, err := response.Body.Read(buffer)
		moved += int64(n)
		if err != nil {
			return moved
		}
	}
}

// holdStalledReaders opens downloads that nobody reads, says so on stdout, and holds them for the duration.
func holdStalledReaders(o options) (any, error) {
	config, bearer, err := o.config()
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(o.url)
	if err != nil {
		return nil, err
	}
	o.bytes = 1 << 40
	for range o.connections {
		connection, err := dial(base, config)
		if err != nil {
			return nil, err
		}
		defer connection.Close()
		head := fmt.Sprintf("GET %s%s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\n\r\n", base.Path, o.bigPath(), base.Host, bearer)
		if _, err := connection.Write([]byte(head)); err != nil {
			return nil, err
		}
	}
	time.Sleep(o.duration)
	return map[string]any{"held": o.connections}, nil
}
