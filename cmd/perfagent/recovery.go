package main

// troubles are what is wrong with parts of the agent that it does without meanwhile, for its health.
func (a *agent) troubles() (all []string) {
	if a.events != nil {
		if trouble := a.events.Stats().Trouble; trouble != "" {
			all = append(all, trouble)
		}
	}
	return all
}
