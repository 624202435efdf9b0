package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/churn"
)

// keptProcesses hold the connections that are kept: one process may not open as many files.
const keptProcesses = 4

const churnFormat = "%-11s %-12s %12s %9s %9s %9s %-9s %7s %7s\n"

// runChurn makes very many connections and returns how many rows are wrong. Each row has an agent of its own, without a trace.
func runChurn(only string, short, kept int) (broken int, err error) {
	rows := []struct {
		name               string
		connections, twice int
		run                func() (churn.Books, error)
	}{
		{"short-end", short, 1, func() (churn.Books, error) { return churnShort(short, false) }},
		{"short-reset", short, 1, func() (churn.Books, error) { return churnShort(short, true) }},
		{"kept", kept / keptProcesses * keptProcesses, 2, func() (churn.Books, error) { return churnKept(kept / keptProcesses) }},
	}
	first := true
	for _, r := range rows {
		if !strings.Contains("churn/"+r.name, only) {
			continue
		}
		if first {
			fmt.Println("\nvery many connections, exchanges in each role, and what is left of them 5 s later")
			fmt.Printf(churnFormat, "server", "case", "connections", "sent", "server", "client", "lost", "states", "active")
			first = false
		}
		books, err := r.run()
		if err != nil {
			return broken, fmt.Errorf("churn/%s: %w", r.name, err)
		}
		sent := r.connections * r.twice
		fmt.Printf(churnFormat, "churn", r.name, fmt.Sprint(r.connections), fmt.Sprint(sent), count(books.Server, books.Server != sent),
			count(books.Client, books.Client != sent), lostOf(books), count(books.States, books.States > 0),
			count(books.Active, books.Active > 0))
		if !books.Right(sent) {
			broken++
		}
	}
	return broken, nil
}

func lostOf(b churn.Books) string {
	if len(b.Lost) == 0 {
		return "0"
	}
	return strings.Join(b.Lost, ",") + "!"
}

// churnShort makes connections whose client sends a request and is gone.
func churnShort(connections int, reset bool) (books churn.Books, err error) {
	s, err := churn.Serve()
	if err != nil {
		return books, err
	}
	a, err := agent.Start(agent.Options{Ports: []int{s.Port}, NoTrace: true})
	if err != nil {
		s.Close()
		return books, err
	}
	defer func() { err = errors.Join(err, a.Stop()) }()
	err = s.Short(connections, reset)
	if served := s.Close(); err == nil && served != connections {
		err = fmt.Errorf("the server read %d requests of %d", served, connections)
	}
	if err != nil {
		return books, err
	}
	return churn.Settle(a, connections)
}

// churnKept makes two exchanges on each of many connections, in turn, with so many connections in each process.
func churnKept(connections int) (books churn.Books, err error) {
	var holders []*churn.Holder
	var ports []int
	for range keptProcesses {
		h, err := churn.StartHolder(connections)
		if err != nil {
			return books, err
		}
		defer h.Stop()
		holders, ports = append(holders, h), append(ports, h.Port)
	}
	a, err := agent.Start(agent.Options{Ports: ports, NoTrace: true})
	if err != nil {
		return books, err
	}
	defer func() { err = errors.Join(err, a.Stop()) }()
	for _, step := range []func(*churn.Holder) error{(*churn.Holder).Round, (*churn.Holder).Round, (*churn.Holder).Close} {
		for _, h := range holders {
			if err := step(h); err != nil {
				return books, err
			}
		}
	}
	return churn.Settle(a, 2*keptProcesses*connections)
}
