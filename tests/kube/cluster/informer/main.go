// A client-go informer that tells what its cache holds: `informer -kubeconfig FILE -namespace NAME`.
//
// For each line on standard input it prints one JSON object: the ConfigMaps of the cache by name with their
// resourceVersion, how many events its handlers saw, and how often it listed and watched. It ends with its input.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"os"
	"sync/atomic"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

type counts struct {
	Lists   atomic.Int64
	Watches atomic.Int64
	Added   atomic.Int64
	Updated atomic.Int64
	Deleted atomic.Int64
	Errors  atomic.Int64
}

type counting struct {
	next http.RoundTripper
	seen *counts
}

// A watch that begins with all there is (sendInitialEvents) is a list too: so client-go lists where the server lets it.
func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	asked := r.URL.Query()
	if asked.Get("watch") != "" {
		c.seen.Watches.Add(1)
	}
	if asked.Get("watch") == "" || asked.Get("sendInitialEvents") == "true" {
		c.seen.Lists.Add(1)
	}
	return c.next.RoundTrip(r)
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "file")
	namespace := flag.String("namespace", "default", "name")
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	seen := &counts{}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return counting{next, seen} })
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		log.Fatal(err)
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(*namespace))
	maps := factory.Core().V1().ConfigMaps()
	informer := maps.Informer()
	if err := informer.SetWatchErrorHandler(func(_ *cache.Reflector, err error) {
		seen.Errors.Add(1)
		log.Print(err)
	}); err != nil {
		log.Fatal(err)
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { seen.Added.Add(1) },
		UpdateFunc: func(any, any) { seen.Updated.Add(1) },
		DeleteFunc: func(any) { seen.Deleted.Add(1) },
	}); err != nil {
		log.Fatal(err)
	}
	stop := make(chan struct{})
	factory.Start(stop)
	factory.WaitForCacheSync(stop)
	answer := json.NewEncoder(os.Stdout)
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		held, err := maps.Lister().List(labels.Everything())
		if err != nil {
			log.Fatal(err)
		}
		if err := answer.Encode(map[string]any{
			"cache": versions(held), "lists": seen.Lists.Load(), "watches": seen.Watches.Load(),
			"added": seen.Added.Load(), "updated": seen.Updated.Load(), "deleted": seen.Deleted.Load(),
			"errors": seen.Errors.Load(),
		}); err != nil {
			log.Fatal(err)
		}
	}
	close(stop)
}

func versions(held []*v1.ConfigMap) map[string]string {
	found := make(map[string]string, len(held))
	for _, each := range held {
		found[each.Name] = each.ResourceVersion
	}
	return found
}
