package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// serve answers on every port it is given until one of them fails.
func serve(arguments []string) error {
	var httpPorts, grpcPorts, tcpPorts, tlsPorts repeated
	flags := flag.NewFlagSet("server", flag.ExitOnError)
	flags.Var(&httpPorts, "port", "answer HTTP/1.1 and HTTP/2 on this `port`")
	flags.Var(&grpcPorts, "grpc", "answer gRPC on this `port`")
	flags.Var(&tcpPorts, "tcp", "answer a line of text on this `port`")
	flags.Var(&tlsPorts, "tls", "that one of the HTTP `port`s speaks TLS")
	flags.String("crt", "", "taken and not read: the certificate is made at the start")
	flags.String("key", "", "taken and not read, as --crt")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if len(httpPorts)+len(grpcPorts)+len(tcpPorts) == 0 {
		httpPorts = repeated{"8080"} // as the suite's own server does, whose manifests rely on it
	}
	failed := make(chan error)
	start := func(ports repeated, answer func(net.Listener, string) error) error {
		for _, port := range ports {
			listener, err := net.Listen("tcp", ":"+port)
			if err != nil {
				return err
			}
			go func() { failed <- answer(listener, port) }()
		}
		return nil
	}
	answerHTTP := func(listener net.Listener, port string) error {
		return serveHTTP(listener, port, slices.Contains(tlsPorts, port))
	}
	for _, err := range []error{start(httpPorts, answerHTTP), start(grpcPorts, serveGRPC), start(tcpPorts, serveTCP)} {
		if err != nil {
			return err
		}
	}
	return <-failed
}

// seen is what every protocol's answer begins with.
func seen(protocol, port, from string) string {
	pod, err := os.Hostname()
	if err != nil {
		pod = err.Error()
	}
	if address, _, err := net.SplitHostPort(from); err == nil {
		from = address
	}
	return fmt.Sprintf("Hostname=%s\nServicePort=%s\nProto=%s\nIP=%s\n", pod, port, protocol, from)
}

func serveHTTP(listener net.Listener, port string, encrypted bool) error {
	echo := func(answer http.ResponseWriter, request *http.Request) {
		io.WriteString(answer, seen(request.Proto, port, request.RemoteAddr))
		fmt.Fprintf(answer, "Method=%s\nHost=%s\nURL=%s\n", request.Method, request.Host, request.RequestURI)
		io.WriteString(answer, fields("RequestHeader", request.Header))
	}
	server := http.Server{Handler: http.HandlerFunc(echo), Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	if !encrypted {
		return server.Serve(listener)
	}
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}}
	return server.ServeTLS(listener, "", "")
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	about := x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"echo"}, NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, &about, &about, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// serveGRPC answers every message of every method of every service.
func serveGRPC(listener net.Listener, port string) error {
	echo := func(_ any, stream grpc.ServerStream) error {
		from := ""
		if caller, known := peer.FromContext(stream.Context()); known {
			from = caller.Addr.String()
		}
		header, _ := metadata.FromIncomingContext(stream.Context())
		answer := []byte(seen("GRPC", port, from) + fields("RequestHeader", header))
		for {
			var question []byte
			if err := stream.RecvMsg(&question); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := stream.SendMsg(&answer); err != nil {
				return err
			}
		}
	}
	return grpc.NewServer(grpc.ForceServerCodec(opaque{}), grpc.UnknownServiceHandler(echo)).Serve(listener)
}

// serveTCP waits for a line and answers it.
func serveTCP(listener net.Listener, port string) error {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			if _, err := bufio.NewReader(connection).ReadString('\n'); err == nil {
				io.WriteString(connection, seen("TCP", port, connection.RemoteAddr().String()))
			}
		}()
	}
}
