package finding

// Reach is how people reach the agent, for commands that they copy. The zero value is an agent with the defaults.
type Reach struct {
	// URL is where its pages are, without a slash at the end, as http://127.0.0.1:9464.
	URL string
	// Curl is the command that gets a page, as curl -s; with the option for a Unix socket where there is one alone.
	Curl string
	// Trace is the command that shows exchanges, as perfagent trace; with the option for a socket that is not the default.
	Trace string
}

// Get is the command that shows what is at a path.
func (r *Reach) Get(path string) string {
	base, command := r.URL, r.Curl
	if base == "" {
		base = "http://127.0.0.1:9464"
	}
	if command == "" {
		command = "curl -s"
	}
	return command + " '" + base + path + "'"
}

func (r *Reach) traceCommand() string {
	if r.Trace == "" {
		return "perfagent trace"
	}
	return r.Trace
}
