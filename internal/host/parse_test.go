package host

import "testing"

// Shows that no bytes of a process's files bring a parser down; each of these is chosen by the process itself.
func FuzzProcessFiles(f *testing.F) {
	f.Add([]byte("12 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"))
	f.Add([]byte("0::/system.slice/a.service\n1:name=systemd:/x\n"))
	f.Add([]byte("gunicorn: worker [app]"))
	f.Add([]byte("[celeryd: x] (worker -A a"))
	f.Add([]byte(" "))
	f.Add([]byte("python3\x00-uBm\x00http.server"))
	f.Add([]byte("7f00-7f01 r-xp 00000000 08:01 12 /usr/lib/libssl.so.3\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		parseStat(data)
		cgroup := parseCgroup(data)
		cgroup.Unit()
		cgroup.machine()
		cgroup.Within(string(data))
		if id := cgroup.ContainerID(); id != "" && len(id) != containerIDLength {
			t.Errorf("container id %q", id)
		}
		mappedLibraries(data)
		parseAttributes(string(data))
		args := splitArguments(data)
		for _, base := range []string{"python3.11", "node", "java", "ruby", "perl", "php", "bash", "deno", "busybox", "beam.smp", "uwsgi", "php-fpm8.2", "dotnet"} {
			c := command{base: base, args: args, directory: "/srv"}
			found, _ := c.subject()
			name := new(identityReader).subjectName(0, &subject{name: found.name, places: found.places})
			if clean := cleanName(name); clean == "" || len(clean) > serviceBytesMax {
				t.Errorf("name %q of %q", clean, data)
			}
		}
	})
}
