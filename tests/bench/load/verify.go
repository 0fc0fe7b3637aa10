package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
)

// verify prints the SHA-256 of bodies, so that a caller can compare one way with another byte for byte.
func verify(o options) (any, error) {
	client, bearer, err := o.client()
	if err != nil {
		return nil, err
	}
	sums := map[string]string{}
	gets := map[string]string{"get": smallPath, "list": listPath, "gzip": listPath,
		"download": "/api/v1/namespaces/bench/configmaps/big?bytes=32000000"}
	for name, path := range gets {
		request, err := o.request(http.MethodGet, path, bearer, nil)
		if err != nil {
			return nil, err
		}
		if name == "gzip" {
			request.Header.Set("Accept-Encoding", "gzip")
		}
		if sums[name], err = sumOf(client, request, name == "gzip"); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	body := bytes.Repeat([]byte("posted\n"), 150_000)
	request, err := o.request(http.MethodPost, "/api/v1/namespaces/bench/configmaps", bearer, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	sums["post"], err = sumOf(client, request, false)
	return sums, err
}

func sumOf(client *http.Client, request *http.Request, isGzip bool) (string, error) {
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", response.StatusCode)
	}
	var body io.Reader = response.Body
	if isGzip {
		if response.Header.Get("Content-Encoding") != "gzip" {
			return "", fmt.Errorf("asked for gzip, got %q", response.Header.Get("Content-Encoding"))
		}
		if body, err = gzip.NewReader(response.Body); err != nil {
			return "", err
		}
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, body); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
