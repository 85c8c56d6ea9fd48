package devicegrant

import (
	"errors"
	"net/http"
	"strconv"
)

// VerificationHandler serves the page on which a person enters the code and
// decides (RFC 8628 sections 3.3 and 3.3.1). Mount it at VerificationURI. It works
// without JavaScript and without cookies of its own.
//
// Nothing is looked up for anybody who is not signed in, nothing is decided by GET,
// and posts from other sites are refused.
func (s *Server) VerificationHandler() http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet, http.MethodHead:
			s.verifyGet(w, r)
		case http.MethodPost:
			if crossOrigin.Check(r) != nil {
				s.showMessage(w, http.StatusForbidden, messageCrossOrigin)
				return
			}
			s.verifyPost(w, r)
		default:
			w.Header().Set("Allow", "GET, HEAD, POST")
			s.showMessage(w, http.StatusMethodNotAllowed, messageMethod)
		}
	})
}

// verifyGet shows the form, or, when the code came in the URL, what it stands for.
func (s *Server) verifyGet(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	typed := query.Get("user_code")
	if resume := query.Get("resume"); resume != "" {
		content, ok := s.keys.unseal(resumePurpose, s.now(), resume)
		if !ok {
			s.showForm(w, http.StatusOK, formPage{})
			return
		}
		typed = string(content)
	}
	// A link on another site must not use up the guesses of whoever follows it:
	// the person sends the code off themselves.
	if typed == "" || r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		s.showForm(w, http.StatusOK, formPage{Typed: typed})
		return
	}
	s.reviewCode(w, r, typed)
}

func (s *Server) verifyPost(w http.ResponseWriter, r *http.Request) {
	f, err := readForm(r)
	if err != nil {
		s.showMessage(w, http.StatusBadRequest, messageMalformed)
		return
	}
	defer f.free()
	if action := f.get("action"); action != "" {
		s.decidePosted(w, r, action, f.get("ticket"))
		return
	}
	s.reviewCode(w, r, f.get("user_code"))
}

const resumePurpose = "resume"

// resumeURI returns where a code that was typed is looked up again: after the
// login, or on the way back. The code is sealed in it, so that it stands in no log.
func (s *Server) resumeURI(typed string) string {
	if typed == "" || len(typed) > maxTyped {
		return s.verifyPath
	}
	return s.resumePath + s.keys.seal(resumePurpose, s.now().Add(s.cfg.Lifetime), []byte(typed))
}

// person returns who is signed in. When nobody is, the host has sent the browser
// to its login, from where it comes back to returnTo.
func (s *Server) person(w http.ResponseWriter, r *http.Request, returnTo string) (Person, bool) {
	subject, ok := s.cfg.SignedIn(w, r, returnTo)
	return Person{Subject: subject, Addr: s.remoteAddr(r)}, ok
}

// reviewCode shows what a code stands for, with the buttons to decide. A code that
// was posted leads to a page of its own, so that the browser can go back to it.
func (s *Server) reviewCode(w http.ResponseWriter, r *http.Request, typed string) {
	here := s.resumeURI(typed)
	by, ok := s.person(w, r, here)
	if !ok {
		return
	}
	review, err := s.Lookup(r.Context(), typed, by)
	switch {
	case errors.Is(err, ErrUserCode):
		s.showForm(w, http.StatusBadRequest, formPage{Typed: typed, Wrong: true})
	case err != nil:
		s.showFailure(w, r, err)
	case r.Method == http.MethodPost:
		http.Redirect(w, r, here, http.StatusSeeOther) //nolint:gosec // Our own path; what was typed is sealed in it.
	default:
		s.showReview(w, review)
	}
}

// decidePosted takes the decision that was made on the review page.
func (s *Server) decidePosted(w http.ResponseWriter, r *http.Request, action, ticket string) {
	decide, done := s.Approve, messageApproved
	switch action {
	case "approve":
	case "deny":
		decide, done = s.Deny, messageDenied
	default:
		s.showMessage(w, http.StatusBadRequest, messageMalformed)
		return
	}
	by, ok := s.person(w, r, s.verifyPath)
	if !ok {
		return
	}
	if err := decide(r.Context(), ticket, by); err != nil {
		s.showFailure(w, r, err)
		return
	}
	s.showMessage(w, http.StatusOK, done)
}

// showFailure is where the errors of Lookup, Approve and Deny become pages.
func (s *Server) showFailure(w http.ResponseWriter, r *http.Request, err error) {
	var tooMany *TooManyGuessesError
	switch {
	case errors.As(err, &tooMany):
		seconds := wholeSeconds(tooMany.RetryAfter)
		w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
		s.showMessage(w, http.StatusTooManyRequests, tooManyMessage(seconds))
	case errors.Is(err, ErrDecided):
		s.showMessage(w, http.StatusConflict, messageDecided)
	case errors.Is(err, ErrTicket), errors.Is(err, ErrUserCode):
		s.showMessage(w, http.StatusBadRequest, messageStale)
	default:
		s.cfg.Logger.ErrorContext(r.Context(), "devicegrant: verification page failed", "error", err)
		w.Header().Set("Retry-After", strconv.FormatInt(wholeSeconds(s.cfg.Interval), 10))
		s.showMessage(w, http.StatusServiceUnavailable, messageUnavailable)
	}
}
