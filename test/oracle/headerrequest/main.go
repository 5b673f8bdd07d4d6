// Prints the identities that Kubernetes' own code reads from requests: the reference for the hub's reading of the same bytes.
//
// Standard input: {"usernameHeaders","uidHeaders","groupHeaders","extraPrefixes": [string], "requests": [base64 of one raw HTTP/1.1 request]}.
// Standard output: a JSON array, one entry per request: {"code"} of the answer, and {"name","uid","groups","extra"} when it is 200.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
)

type input struct {
	UsernameHeaders []string `json:"usernameHeaders"`
	UIDHeaders      []string `json:"uidHeaders"`
	GroupHeaders    []string `json:"groupHeaders"`
	ExtraPrefixes   []string `json:"extraPrefixes"`
	Requests        [][]byte `json:"requests"`
}

type identity struct {
	Code   int                 `json:"code"`
	Name   string              `json:"name,omitempty"`
	UID    string              `json:"uid,omitempty"`
	Groups []string            `json:"groups,omitempty"`
	Extra  map[string][]string `json:"extra,omitempty"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var in input
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		return err
	}
	reader := headerrequest.NewDynamic(
		headerrequest.StaticStringSlice(in.UsernameHeaders),
		headerrequest.StaticStringSlice(in.UIDHeaders),
		headerrequest.StaticStringSlice(in.GroupHeaders),
		headerrequest.StaticStringSlice(in.ExtraPrefixes),
	)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	// A real server, because it refuses headers that the reader alone would take.
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok, err := reader.AuthenticateRequest(r)
		if err != nil || !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		user := answer.User
		_ = json.NewEncoder(w).Encode(identity{Code: 200, Name: user.GetName(), UID: user.GetUID(), Groups: user.GetGroups(), Extra: user.GetExtra()})
	})}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()

	out := make([]identity, len(in.Requests))
	for i, raw := range in.Requests {
		if out[i], err = ask(listener.Addr().String(), raw); err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

func ask(address string, raw []byte) (identity, error) {
	connection, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return identity{}, err
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := connection.Write(raw); err != nil {
		return identity{}, err
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		return identity{}, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return identity{Code: response.StatusCode}, nil
	}
	var who identity
	return who, json.NewDecoder(response.Body).Decode(&who)
}
