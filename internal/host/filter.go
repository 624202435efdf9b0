package host

import "slices"

// Filter chooses processes. The zero value chooses every process; each list that is not empty narrows the choice, and
// one match in a list is enough for that list.
type Filter struct {
	PIDs        []uint32 // these processes and their descendants
	Executables []Glob   // on the executable's path as the process sees it
	Cgroups     []string // cgroup v2 paths and all below them
}

// IsZero tells whether every process is chosen.
func (f *Filter) IsZero() bool {
	return len(f.PIDs) == 0 && len(f.Executables) == 0 && len(f.Cgroups) == 0
}

// admitsUnknown tells whether a process is chosen of which only the pid is known, because it ended too early.
func (f *Filter) admitsUnknown(pid uint32) bool {
	return f.IsZero() || len(f.Executables) == 0 && len(f.Cgroups) == 0 && slices.Contains(f.PIDs, pid)
}

// matchExecutable tells whether the list of globs admits name.
func (f *Filter) matchExecutable(name string) bool {
	for _, g := range f.Executables {
		if g.Match(name) {
			return true
		}
	}
	return len(f.Executables) == 0
}

// matchCgroup tells whether the list of groups admits c.
func (f *Filter) matchCgroup(c Cgroup) bool {
	for _, wanted := range f.Cgroups {
		if c.Within(wanted) {
			return true
		}
	}
	return len(f.Cgroups) == 0
}

// Choose returns every live process that the filter chooses; nil for the zero filter. Root is the directory that holds
// proc, "" for "/".
func (f *Filter) Choose(root string) ([]uint32, error) {
	if f.IsZero() {
		return nil, nil
	}
	proc := newProcFS(root)
	pids, err := proc.pids()
	if err != nil {
		return nil, err
	}
	if len(f.PIDs) > 0 {
		if pids, err = Descendants(root, f.PIDs); err != nil {
			return nil, err
		}
	}
	chosen := pids[:0]
	for _, pid := range pids {
		cgroup, _ := ReadCgroup(proc.root, pid) // a process that ended is in no group
		if f.matchExecutable(proc.executable(pid)) && f.matchCgroup(cgroup) {
			chosen = append(chosen, pid)
		}
	}
	return chosen, nil
}
