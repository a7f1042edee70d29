//go:build linux

package crowd

import "lesson/internal/chart"

// Page is the report as a page.
func (r *Report) Page() *chart.Page { return &chart.Page{} }
