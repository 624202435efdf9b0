// Package series holds the engines that draw conclusions from a series, that is from windows over time: trends, correlations,
// forecasts, probable causes, changes and anomalies. They work on plain numbers, one value per window, with NaN for a window
// without one; they know neither endpoints nor HTTP and are deterministic. Only Anomalies keeps something between calls: it judges
// values as they come. What an engine concludes, with its evidence, is a finding.
package series
