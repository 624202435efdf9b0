// Package series holds the engines that draw conclusions from a series, that is from windows over time: trends, correlations,
// forecasts and probable causes. They work on plain numbers, one value per window, with NaN for a window without one; they
// know neither endpoints nor HTTP, keep nothing between calls and are deterministic. What an engine concludes, with its
// evidence, is a finding.
package series
