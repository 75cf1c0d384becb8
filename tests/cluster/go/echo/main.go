// Command echo is the server and the client that run in the pods of a test cluster: one binary, two names.
//
//	server --port=8080 --port=8443 --tls=8443 --grpc=7070 --tcp=9090
//	client [--method=M] [-H NAME:VALUE]... [--count=N | --every=DURATION] [--fresh] URL
//
// The server answers every request with what it saw of it, one `Field=value` a line. The client asks an http,
// https, h2c, grpc or tcp URL and prints status and answer in the form that the Gateway API's conformance suite
// reads (its utils/echo package). The flags are those that the suite and its manifests pass.
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	run := serve
	if filepath.Base(os.Args[0]) == "client" {
		run = ask
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// repeated is a flag that may be given more than once.
type repeated []string

func (r *repeated) String() string { return strings.Join(*r, ",") }

func (r *repeated) Set(value string) error {
	*r = append(*r, value)
	return nil
}

// fields formats a header as `KIND=Name:value` lines, in a stable order.
func fields(kind string, header map[string][]string) string {
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(header)) {
		// The order of a name's values has a meaning (RFC 9110, section 5.3).
		for _, value := range header[name] {
			lines.WriteString(kind + "=" + name + ":" + value + "\n")
		}
	}
	return lines.String()
}

// opaque passes gRPC messages as the bytes that they are: no generated code is needed to echo.
type opaque struct{}

func (opaque) Name() string { return "proto" }

func (opaque) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }

func (opaque) Unmarshal(bytes []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), bytes...)
	return nil
}
