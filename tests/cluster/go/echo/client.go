package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// patience bounds each request.
const patience = 10 * time.Second

// reply is one answer: its head and its body as `Field=value` lines.
type reply struct{ head, body string }

// ask sends the requests one after the other and prints each reply behind its number.
func ask(arguments []string) error {
	target, options := arguments, arguments
	// The URL may stand before the flags, where package flag would end.
	if len(arguments) > 0 && !strings.HasPrefix(arguments[0], "-") {
		target, options = arguments[:1], arguments[1:]
	}
	var headers repeated
	flags := flag.NewFlagSet("client", flag.ExitOnError)
	flags.Var(&headers, "H", "send this `NAME:VALUE` header")
	method := flags.String("method", "GET", "the request's `method`")
	count := flags.Int("count", 1, "`how many` requests, on one connection where the protocol keeps it")
	every := flags.Duration("every", 0, "go on for ever, a request each `duration`, and print a line for each")
	messages := flags.Int("messages", 1, "`how many` messages each gRPC call sends and gets, 20 ms apart")
	fresh := flags.Bool("fresh", false, "make a new connection for each HTTP request")
	if err := flags.Parse(options); err != nil {
		return err
	}
	if len(flags.Args()) > 0 {
		target = flags.Args()
	}
	if len(target) != 1 {
		return errors.New("one URL is expected")
	}
	to, err := url.Parse(target[0])
	if err != nil {
		return err
	}
	header := http.Header{}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ":")
		header.Add(name, strings.TrimSpace(value))
	}
	send, err := sender(to, *method, header, *fresh, *messages)
	if err != nil {
		return err
	}
	if *every > 0 {
		keepAsking(send, *every)
	}
	for number := range *count {
		reply, err := send()
		if err != nil {
			return err
		}
		fmt.Printf("[%d] Url=%s\n", number, to)
		show(fmt.Sprintf("[%d] ", number), reply.head)
		show(fmt.Sprintf("[%d body] ", number), reply.body)
		fmt.Println() // what parts the replies
	}
	return nil
}

// keepAsking prints a line for each request: when it was sent, in microseconds, its status and who answered; or
// `error` and which.
func keepAsking(send func() (reply, error), every time.Duration) {
	for tick := time.Tick(every); ; <-tick {
		sent := time.Now().UnixMicro()
		if reply, err := send(); err != nil {
			fmt.Println(sent, "error", err)
		} else {
			fmt.Println(sent, value(reply.head, "StatusCode"), value(reply.body, "Hostname"))
		}
	}
}

// value finds a field in `Field=value` lines.
func value(lines, field string) string {
	for line := range strings.Lines(lines) {
		if value, found := strings.CutPrefix(line, field+"="); found {
			return strings.TrimSpace(value)
		}
	}
	return "-"
}

func show(prefix, text string) {
	for line := range strings.Lines(text) {
		fmt.Println(prefix + strings.TrimRight(line, "\n"))
	}
}

// sender returns what sends one request to the URL, by its scheme.
func sender(to *url.URL, method string, header http.Header, fresh bool, messages int) (func() (reply, error), error) {
	switch to.Scheme {
	case "http", "https", "h2c":
		return httpSender(*to, method, header, fresh), nil
	case "grpc":
		return grpcSender(to.Host, header, messages)
	case "tcp":
		return func() (reply, error) { return askTCP(to.Host) }, nil
	}
	return nil, fmt.Errorf("no such scheme: %q", to.Scheme)
}

func httpSender(to url.URL, method string, header http.Header, fresh bool) func() (reply, error) {
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: fresh, Protocols: new(http.Protocols)}
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	if to.Scheme == "h2c" {
		transport.Protocols.SetUnencryptedHTTP2(true)
		to.Scheme = "http"
	} else {
		transport.Protocols.SetHTTP1(true)
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client := http.Client{Transport: transport, CheckRedirect: stay, Timeout: patience}
	return func() (reply, error) {
		request, err := http.NewRequest(method, to.String(), nil)
		if err != nil {
			return reply{}, err
		}
		request.Header = header.Clone()
		request.Host = header.Get("Host")
		response, err := client.Do(request)
		if err != nil {
			return reply{}, err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		head := fmt.Sprintf("StatusCode=%d\n%s", response.StatusCode, fields("ResponseHeader", response.Header))
		return reply{head, string(body)}, err
	}
}

// grpcSender reports a call that succeeded as 200, as the suite expects, and a failed one by its gRPC code.
func grpcSender(host string, header http.Header, messages int) (func() (reply, error), error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(opaque{})),
	}
	connection, err := grpc.NewClient("passthrough:///"+host, options...)
	if err != nil {
		return nil, err
	}
	return func() (reply, error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for name, values := range header {
			for _, value := range values {
				ctx = metadata.AppendToOutgoingContext(ctx, name, value)
			}
		}
		head, answer, err := talk(ctx, connection, messages)
		if err != nil {
			return reply{head: fmt.Sprintf("StatusCode=%d\nError=%s\n", status.Code(err), status.Convert(err).Message())}, nil
		}
		return reply{"StatusCode=200\n" + fields("ResponseHeader", head), string(answer)}, nil
	}, nil
}

// talk makes one call: so many messages, each of which is answered, and then its end.
func talk(ctx context.Context, connection *grpc.ClientConn, messages int) (head metadata.MD, answer []byte, err error) {
	both := grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	stream, err := connection.NewStream(ctx, &both, "/proto.EchoTestService/Echo")
	if err != nil {
		return nil, nil, err
	}
	for number := range messages {
		if number > 0 {
			time.Sleep(20 * time.Millisecond)
		}
		// What went wrong is told by the receiving side.
		if err := stream.SendMsg(&[]byte{}); err != nil && !errors.Is(err, io.EOF) {
			return nil, nil, err
		}
		if err := stream.RecvMsg(&answer); err != nil {
			return nil, nil, err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, nil, err
	}
	if err := stream.RecvMsg(&[]byte{}); !errors.Is(err, io.EOF) {
		return nil, nil, errors.Join(errors.New("the call has no clean end"), err)
	}
	head, err = stream.Header()
	return head, answer, err
}

func askTCP(host string) (reply, error) {
	connection, err := net.DialTimeout("tcp", host, patience)
	if err != nil {
		return reply{}, err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		return reply{}, err
	}
	if _, err := io.WriteString(connection, "hello\n"); err != nil {
		return reply{}, err
	}
	body, err := io.ReadAll(connection)
	return reply{"StatusCode=200\n", string(body)}, err
}
