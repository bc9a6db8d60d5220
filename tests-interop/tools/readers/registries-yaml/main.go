// Reads a registries.yaml with K3s' own parser, makes TOML of it as K3s does, reads that, and prints the repository under
// which each image is asked for. K3s puts URLs, patterns and replacements between quotes as they are, and logins by `%q`
// (pkg/agent/templates/templates.go at cacc6d6).
package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/pelletier/go-toml/v2"
	"github.com/rancher/wharfie/pkg/registries"
)

type host struct {
	Rewrite map[string]string `toml:"rewrite"`
}

func main() {
	read, err := registries.GetPrivateRegistries(os.Args[1])
	check(err)
	for key, config := range read.Registry.Configs {
		if config.Auth != nil {
			var document map[string]any
			login := fmt.Sprintf("[configs.'%s'.auth]\nusername = %q\npassword = %q\n", key, config.Auth.Username, config.Auth.Password)
			check(toml.Unmarshal([]byte(login), &document))
		}
	}
	rewrites := map[string]map[string]string{}
	for registry, mirror := range read.Registry.Mirrors {
		var text strings.Builder
		for _, endpoint := range mirror.Endpoints {
			fmt.Fprintf(&text, "[host.\"%s\"]\n[host.\"%s\".rewrite]\n", endpoint, endpoint)
			for pattern, replacement := range mirror.Rewrites {
				fmt.Fprintf(&text, "\"%s\" = \"%s\"\n", pattern, replacement)
			}
		}
		var file struct {
			Host map[string]host `toml:"host"`
		}
		check(toml.Unmarshal([]byte(text.String()), &file))
		for _, host := range file.Host {
			rewrites[registry] = host.Rewrite
		}
	}
	for _, image := range os.Args[2:] {
		reference, err := name.ParseReference(image)
		check(err)
		registry, _, _ := strings.Cut(image, "/")
		repository := reference.Context().RepositoryStr()
		for pattern, replacement := range rewrites[registry] {
			expression, err := regexp.Compile(pattern)
			check(err)
			repository = expression.ReplaceAllString(repository, replacement)
		}
		fmt.Println(repository)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
