// Reads the headers of hosts.toml files as containerd does, and sends them with Go's HTTP client to a server of its own.
// It fails for a header that Go refuses to send, and prints the name and value of each that arrived.
package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/pelletier/go-toml/v2"
)

type table struct {
	Header map[string]any   `toml:"header"`
	Host   map[string]table `toml:"host"`
}

func main() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("authorization:", r.Header.Get("Authorization"))
	}))
	defer server.Close()
	for _, path := range os.Args[1:] {
		text, err := os.ReadFile(path)
		check(err)
		var file table
		check(toml.Unmarshal(text, &file))
		send(server.URL, file.Header)
		for _, host := range file.Host {
			send(server.URL, host.Header)
		}
	}
}

func send(url string, header map[string]any) {
	if len(header) == 0 {
		return
	}
	request, err := http.NewRequest(http.MethodGet, url, nil)
	check(err)
	for key, value := range header {
		// containerd sets the key as it is written, without Go's canonical form.
		request.Header[key] = []string{value.(string)}
	}
	response, err := http.DefaultClient.Do(request)
	check(err)
	check(response.Body.Close())
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
