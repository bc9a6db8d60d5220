// Reads an archive of images as K3s and RKE2 do: with their opener, whose zstd decoder is bounded to 32 MiB, and, for each
// image that is named, with the search of RKE2's start. Prints the SHA-256 and the name of each entry, then the name and the
// layers of each image found.
package main

import (
	"archive/tar"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/rancher/wharfie/pkg/tarfile"
)

func main() {
	path := os.Args[1]
	opener, err := tarfile.GetOpener(path)
	check(err)
	file, err := opener()
	check(err)
	entries := tar.NewReader(file)
	for {
		header, err := entries.Next()
		if err == io.EOF {
			break
		}
		check(err)
		hash := sha256.New()
		_, err = io.Copy(hash, entries)
		check(err)
		fmt.Printf("%x  %s\n", hash.Sum(nil), header.Name)
	}
	for _, wanted := range os.Args[2:] {
		reference, err := name.ParseReference(wanted)
		check(err)
		image, err := tarfile.FindImage(filepath.Dir(path), reference)
		check(err)
		layers, err := image.Layers()
		check(err)
		fmt.Print(wanted)
		for _, layer := range layers {
			id, err := layer.DiffID()
			check(err)
			content, err := layer.Uncompressed()
			check(err)
			hash := sha256.New()
			_, err = io.Copy(hash, content)
			check(err)
			if found := fmt.Sprintf("sha256:%x", hash.Sum(nil)); found != id.String() {
				check(fmt.Errorf("a layer of %s is %s instead of %s", wanted, found, id))
			}
			fmt.Print(" ", id)
		}
		fmt.Println()
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
