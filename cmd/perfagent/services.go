package main

import (
	"fmt"
	"os"

	"github.com/perfagent/perfagent/internal/host"
)

// readServices reads --services.file; "" means none. The error names the file and the line.
func readServices(name string) (*host.Services, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("services file: %w", err)
	}
	defer f.Close()
	services, err := host.ParseServices(f)
	if err != nil {
		return nil, fmt.Errorf("services file %s:%w", name, err)
	}
	return services, nil
}
