package host

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
)

const (
	shortIDLength = 12 // digits of a container id that engines show to people
	// containerNamesMax bounds the remembered names; beyond it they are read again.
	containerNamesMax     = 4096
	containerFileBytesMax = 4 << 20
)

// containerNames finds the name of a container from its id in the engines' own records, without asking their
// daemons: Docker's and Podman's. Where neither knows the container (containerd, CRI-O), its host name stands in, which
// those set to the pod's name, else the first 12 digits of the id.
type containerNames struct {
	root  string
	names map[string]string
}

func newContainerNames(root string) *containerNames {
	return &containerNames{root, make(map[string]string)}
}

// name returns the name of a container, "" for the empty id. Hostname is the HOSTNAME of the process's environment.
func (c *containerNames) name(id, hostname string) string {
	if id == "" {
		return ""
	}
	name, known := c.names[id]
	if !known {
		name = firstOf(func() string { return c.docker(id) }, func() string { return c.podman(id) })
		if len(c.names) >= containerNamesMax {
			clear(c.names)
		}
		c.names[id] = name
	}
	switch {
	case name != "":
		return name
	case hostname != "" && !strings.HasPrefix(id, hostname):
		return hostname
	}
	return id[:shortIDLength]
}

// docker reads the name from the container's configuration, which is a slash and the name.
func (c *containerNames) docker(id string) string {
	var config struct{ Name string }
	file := filepath.Join(c.root, "var/lib/docker/containers", id, "config.v2.json")
	if readJSON(file, &config) != nil {
		return ""
	}
	return strings.TrimPrefix(config.Name, "/")
}

// podman reads the name from the list of containers of the system's storage; rootless storage is not searched.
func (c *containerNames) podman(id string) string {
	var containers []struct {
		ID    string   `json:"id"`
		Names []string `json:"names"`
	}
	file := filepath.Join(c.root, "var/lib/containers/storage/overlay-containers/containers.json")
	if readJSON(file, &containers) != nil {
		return ""
	}
	for _, container := range containers {
		if container.ID == id && len(container.Names) > 0 {
			return container.Names[0]
		}
	}
	return ""
}

func readJSON(file string, into any) error {
	data, err := readBounded(file, containerFileBytesMax)
	if err != nil {
		return err
	}
	return json.NewDecoder(bytes.NewReader(data)).Decode(into)
}
