package devicegrant

import (
	"maps"
	"reflect"
	"slices"
)

// Metadata returns doc, which may be nil, with what this grant adds to the
// authorization server's metadata (RFC 8414 section 2, RFC 8628 section 4): the
// endpoint, and the grant type beside those that doc lists. doc is not changed.
func (s *Server) Metadata(doc map[string]any) map[string]any {
	merged := make(map[string]any, len(doc)+2)
	maps.Copy(merged, doc)
	if s.cfg.DeviceAuthorizationEndpoint != "" {
		merged["device_authorization_endpoint"] = s.cfg.DeviceAuthorizationEndpoint
	}
	grants := stringList(doc["grant_types_supported"])
	if _, listed := doc["grant_types_supported"]; !listed && doc != nil {
		grants = []string{"authorization_code", "implicit"} // What leaving the list out means.
	}
	if !slices.Contains(grants, GrantType) {
		grants = append(grants, GrantType)
	}
	merged["grant_types_supported"] = grants
	return merged
}

// stringList copies a list of strings, as a program, a JSON decoder or another library
// with a type of its own makes it.
func stringList(v any) []string {
	var list []string
	items := reflect.ValueOf(v)
	if items.Kind() != reflect.Slice {
		return nil
	}
	for i := range items.Len() {
		item := items.Index(i)
		if item.Kind() == reflect.Interface {
			item = item.Elem()
		}
		if item.Kind() == reflect.String {
			list = append(list, item.String())
		}
	}
	return list
}
