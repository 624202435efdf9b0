package host

import "slices"

// Descendants returns the given processes, as far as they live, and every live process that descends from one of them
// through living parents, in ascending order. A daemon whose parent ended belongs to init and is not found. Root is
// the directory that holds proc, "" for "/".
func Descendants(root string, ancestors []uint32) ([]uint32, error) {
	proc := newProcFS(root)
	pids, err := proc.pids()
	if err != nil {
		return nil, err
	}
	children := make(map[uint32][]uint32, len(pids))
	alive := make(map[uint32]bool, len(pids))
	for _, pid := range pids {
		stat, err := proc.stat(pid)
		if err != nil {
			continue // it ended since the listing
		}
		alive[pid] = true
		children[stat.parent] = append(children[stat.parent], pid)
	}
	found := make(map[uint32]bool)
	queue := slices.Clone(ancestors)
	for len(queue) > 0 {
		pid := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if alive[pid] && !found[pid] {
			found[pid] = true
			queue = append(queue, children[pid]...)
		}
	}
	result := make([]uint32, 0, len(found))
	for pid := range found {
		result = append(result, pid)
	}
	slices.Sort(result)
	return result, nil
}
