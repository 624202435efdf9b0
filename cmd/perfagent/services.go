package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/perfagent/perfagent/internal/host"
	"github.com/perfagent/perfagent/internal/route"
)

// readServices reads --services.file; "" means none. The error names the file and the line.
func readServices(name string) (*host.Services, error) {
	if name == "" {
		return nil, nil
	}
	data, err := readNamedFile(name, servicesBytesMax)
	if err != nil {
		return nil, fmt.Errorf("services file: %w", err)
	}
	services, err := host.ParseServices(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("services file %s:%w", name, err)
	}
	return services, nil
}

// readRoutes reads --routes.file; "" means none. The error names the file and the line.
func readRoutes(name string) (*route.Routes, error) {
	if name == "" {
		return nil, nil
	}
	data, err := readNamedFile(name, routesBytesMax)
	if err != nil {
		return nil, fmt.Errorf("routes file: %w", err)
	}
	routes, err := route.ParseRoutes(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("routes file %s: %w", name, err)
	}
	return routes, nil
}

// namesRead says in a few words which of the two files were read; "" for none.
func namesRead(services *host.Services, routes *route.Routes) string {
	var read []string
	if services != nil {
		read = append(read, fmt.Sprintf("the services file with %s", counted(services.Len(), "rule")))
	}
	if routes != nil {
		read = append(read, fmt.Sprintf("the routes file with %s", counted(routes.Len(), "route")))
	}
	return strings.Join(read, ", ")
}

func counted(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
