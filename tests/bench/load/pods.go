package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// podList is a PodList of about the given size: the fields of real pods, names and uids all different.
func podList(size int) []byte {
	var out bytes.Buffer
	out.WriteString(`{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[`)
	for number := 0; out.Len() < size; number++ {
		if number > 0 {
			out.WriteByte(',')
		}
		out.WriteString(pod(number))
	}
	out.WriteString("]}\n")
	return out.Bytes()
}

func pod(number int) string {
	seed := sha256.Sum256([]byte(strconv.Itoa(number)))
	uid := fmt.Sprintf("%x-%x-%x-%x-%x", seed[:4], seed[4:6], seed[6:8], seed[8:10], seed[10:16])
	managed := strings.Repeat(`"f:name":{},"f:ready":{},"f:restartCount":{},`, 20)
	return fmt.Sprintf(`{"metadata":{"name":"web-%x","namespace":"shop-%d","uid":"%s","resourceVersion":"%d","creationTimestamp":"2026-11-%02dT10:%02d:00Z",`+
		`"labels":{"app":"web","pod-template-hash":"%x"},"managedFields":[{"manager":"kubelet","operation":"Update","fieldsV1":{"f:status":{%s"f:phase":{}}}}]},`+
		`"spec":{"nodeName":"node-%d","containers":[{"name":"web","image":"registry.example/web@sha256:%x","resources":{"requests":{"cpu":"%dm","memory":"%dMi"}}}]},`+
		`"status":{"phase":"Running","podIP":"10.%d.%d.%d","startTime":"2026-11-%02dT10:%02d:03Z"}}`,
		seed[:5], number%40, uid, 1000+number, number%28+1, number%60, seed[16:20], managed, number%200, seed, 50+number%400, 64+number%900,
		number>>16&255, number>>8&255, number&255, number%28+1, number%60)
}

// pods answers LIST, compressed when asked as apiserver does (gzip level 1 above 128 KiB), and WATCH.
func pods(list []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") != "" {
			watch(w, r)
			return
		}
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Length", strconv.Itoa(len(list)))
			_, _ = w.Write(list)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		packed, _ := gzip.NewWriterLevel(w, 1)
		_, _ = packed.Write(list)
		_ = packed.Close()
	}
}

// watch sends events of a size at a rate; each says when it was made.
func watch(w http.ResponseWriter, r *http.Request) {
	rate, _ := strconv.Atoi(r.URL.Query().Get("rate"))
	size, _ := strconv.Atoi(r.URL.Query().Get("size"))
	flusher := http.NewResponseController(w)
	if flusher.Flush() != nil || rate < 1 {
		return
	}
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	for number := 0; ; number++ {
		select {
		case <-r.Context().Done():
			return
		case <-ticker.C:
		}
		body := pod(number)
		for len(body) < size {
			body += "," + pod(number+1)
		}
		_, err := fmt.Fprintf(w, `{"type":"MODIFIED","object":{"at":%d,"items":[%s]}}`+"\n", time.Now().UnixNano(), body)
		if err != nil || flusher.Flush() != nil {
			return
		}
	}
}
