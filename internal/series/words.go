package series

import "fmt"

// ProbabilityText writes a p-value as far as anybody can know it.
func ProbabilityText(p float64) string {
	if p < 1e-6 {
		return "p < 1e-6"
	}
	return fmt.Sprintf("p = %.2g", p)
}
