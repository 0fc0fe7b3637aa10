// Command load is the other two ends of the benchmark: a stand-in API server over TLS ("target") and the load that is put
// on it, directly or through riata. Standard library only. Every run prints one JSON object and ends by itself.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"
)

type options struct {
	url, ca, token string
	connections    int
	duration       time.Duration
	bytes          int64
	background     int
	rate, size     int
}

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: load target|relay|verify|get|list|download|upload|watch|open|duplex|keystroke|stalled|probe|steady|hold [flags]"))
	}
	command := os.Args[1]
	flags := flag.NewFlagSet(command, flag.ExitOnError)
	var o options
	flags.StringVar(&o.url, "url", "", "base URL, with the cluster's path prefix when it goes through the hub")
	flags.StringVar(&o.ca, "ca", "", "CA file of the server")
	flags.StringVar(&o.token, "token-file", "", "file with the bearer token")
	flags.IntVar(&o.connections, "connections", 1, "parallel connections")
	flags.DurationVar(&o.duration, "duration", 3*time.Second, "how long")
	flags.Int64Var(&o.bytes, "bytes", 256<<20, "bytes of one transfer")
	flags.IntVar(&o.background, "background", 0, "saturating downloads beside a keystroke session")
	flags.IntVar(&o.rate, "rate", 10, "watch: events per second and watch")
	flags.IntVar(&o.size, "size", 1024, "watch: bytes of an event")
	first := flags.Int("first", 0, "hold: number of the first cluster")
	clusters := flags.Int("clusters", 1, "hold: how many clusters the watches are spread over")
	to := flags.String("to", "", "relay: where to")
	delay := flags.Duration("delay", 0, "relay: delay each way")
	limit := flags.Float64("bytes-per-second", 0, "relay: rate each way, 0 for none")
	listen := flags.String("listen", "127.0.0.1:0", "target, relay: address to listen on")
	cert := flags.String("cert", "", "target: certificate file")
	key := flags.String("key", "", "target: key file")
	if err := flags.Parse(os.Args[2:]); err != nil {
		fail(err)
	}
	var result any
	var err error
	switch command {
	case "target":
		err = serve(*listen, *cert, *key)
	case "relay":
		err = relay(*listen, *to, *delay, *limit)
	case "verify":
		result, err = verify(o)
	case "list":
		result, err = measureLists(o)
	case "watch":
		result, err = measureWatches(o)
	case "open":
		result, err = measureOpens(o)
	case "duplex":
		result, err = measureDuplex(o)
	case "steady":
		result, err = askSteadily(o)
	case "hold":
		result, err = holdWatches(o, *first, *clusters)
	case "probe":
		result, err = probe(o)
	case "get":
		result, err = measureGets(o)
	case "download":
		result, err = measureDownload(o)
	case "upload":
		result, err = measureUpload(o)
	case "keystroke":
		result, err = measureKeystrokes(o)
	case "stalled":
		result, err = holdStalledReaders(o)
	default:
		err = fmt.Errorf("unknown command %q", command)
	}
	if err != nil {
		fail(err)
	}
	if result != nil {
		if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
			fail(err)
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "load:", err)
	os.Exit(1)
}
