package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"

	"github.com/devicegrant/devicegrant"
)

// Place is for devicegrant.Config. A real server asks a database of addresses.
func (h *Host) Place(_ context.Context, addr netip.Addr) string {
	switch {
	case addr.IsLoopback():
		return "This computer"
	case addr.IsPrivate(), addr.IsLinkLocalUnicast():
		return "Local network"
	default:
		return ""
	}
}

// Risk is for devicegrant.Config: a code that others have tried as well may have been
// passed around.
func (h *Host) Risk(_ context.Context, s devicegrant.Situation) (devicegrant.Verdict, error) {
	if s.Entered > 1 {
		return devicegrant.Warn, nil
	}
	return devicegrant.Allow, nil
}

// scopeWords says what the scopes permit.
var scopeWords = map[string]string{
	"openid":         "Know who you are",
	"profile":        "See your name",
	"offline_access": "Stay signed in",
}

// Page is the verification page's Config: what is asked for in words, in English.
var Page = devicegrant.Page{
	Scope: func(scope, language string) string {
		if language != "en" {
			return ""
		}
		return scopeWords[scope]
	},
	Detail: func(detail json.RawMessage, language string) string {
		if language != "en" {
			return ""
		}
		return paymentWords(detail)
	},
}

// detailTypes are the types of authorization details that this server knows (RFC 9396).
var detailTypes = []string{"payment_initiation"}

var (
	amountForm   = regexp.MustCompile(`^[0-9]{1,12}(\.[0-9]{1,3})?$`)
	currencyForm = regexp.MustCompile(`^[A-Z]{3}$`)
	nameForm     = regexp.MustCompile(`^[\pL\pN][\pL\pN .,&'-]{0,69}$`)
)

// paymentWords says what a payment is, or nothing if it is more than the words say: the
// page then shows the object itself.
func paymentWords(detail json.RawMessage) string {
	var payment map[string]any // A struct would take other members for its own.
	if json.Unmarshal(detail, &payment) != nil || payment["type"] != "payment_initiation" {
		return ""
	}
	sum, _ := payment["instructedAmount"].(map[string]any)
	amount, _ := sum["amount"].(string)
	currency, _ := sum["currency"].(string)
	creditor, _ := payment["creditorName"].(string)
	if len(payment) != 3 || len(sum) != 2 ||
		!amountForm.MatchString(amount) || !currencyForm.MatchString(currency) || !nameForm.MatchString(creditor) {
		return ""
	}
	return fmt.Sprintf("Pay %s %s to “%s”", amount, currency, creditor)
}
