package registry

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ParseQuery reads a query from words such as
//
//	status=production tag=nlp val_acc>=0.9 sort=-registered limit=5
//
// docs/cli.md has the grammar. Words are parted by spaces and all must hold. A
// value with spaces is put in double quotes, in which \" and \\ stand for
// themselves. It returns a *QueryError for text that is not a query.
func ParseQuery(text string) (Query, error) {
	p := queryParser{text: text}
	for {
		for p.at < len(text) && text[p.at] == ' ' {
			p.at++
		}
		if p.at == len(text) {
			return p.q, nil
		}
		if err := p.word(); err != nil {
			return Query{}, err
		}
	}
}

type queryParser struct {
	text string
	at   int
	q    Query
}

func (p *queryParser) fail(at int, reason string) error {
	return &QueryError{Text: p.text, Offset: at, Reason: reason}
}

// word reads key, comparison and value.
func (p *queryParser) word() error {
	start := p.at
	for p.at < len(p.text) && !strings.ContainsRune(" =!<>\"", rune(p.text[p.at])) {
		p.at++
	}
	key := p.text[start:p.at]
	if key == "" {
		return p.fail(start, "a word begins with a field, such as status=production")
	}
	opAt := p.at
	for p.at < len(p.text) && strings.ContainsRune("=!<>", rune(p.text[p.at])) {
		p.at++
	}
	op := Op(p.text[opAt:p.at])
	switch op {
	case Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual:
	case "":
		return p.fail(opAt, "the field "+strconv.Quote(key)+" needs a comparison and a value, such as name=bert")
	default:
		return p.fail(opAt, "unknown comparison "+strconv.Quote(string(op))+": it is one of = != < <= > >=")
	}
	valueAt := p.at
	value, err := p.value()
	if err != nil {
		return err
	}
	if value == "" {
		return p.fail(valueAt, "the value of "+key+" is empty")
	}
	return p.condition(key, op, value, start, opAt, valueAt)
}

// value reads a quoted or plain value.
func (p *queryParser) value() (string, error) {
	start := p.at
	if p.at == len(p.text) || p.text[p.at] != '"' {
		for p.at < len(p.text) && p.text[p.at] != ' ' {
			p.at++
		}
		return p.text[start:p.at], nil
	}
	var b strings.Builder
	for p.at++; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case c == '\\' && p.at+1 < len(p.text) && strings.ContainsRune(`"\`, rune(p.text[p.at+1])):
			p.at++
			b.WriteByte(p.text[p.at])
		case c == '"':
			if p.at++; p.at < len(p.text) && p.text[p.at] != ' ' {
				return "", p.fail(p.at, "a space is missing after the quoted value")
			}
			return b.String(), nil
		default:
			b.WriteByte(c)
		}
	}
	return "", p.fail(start, "the quote is never closed")
}

// condition adds one condition to the query.
func (p *queryParser) condition(key string, op Op, value string, keyAt, opAt, valueAt int) error {
	if key == "registered" {
		return p.registered(op, value, opAt, valueAt)
	}
	if knownField(key) {
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(v) {
			return p.fail(valueAt, strconv.Quote(value)+" is not a number")
		}
		p.q.Bounds = append(p.q.Bounds, Bound{Field: key, Op: op, Value: v})
		return nil
	}
	known := []string{"name", "status", "tag", "parent", "sort", "limit"}
	if !slices.Contains(known, key) {
		return p.fail(keyAt, "unknown field "+strconv.Quote(key)+": it is metric.NAME or one of "+
			strings.Join(append(append(known, "registered"), Fields()...), ", "))
	}
	if op != Equal {
		return p.fail(opAt, key+" takes only =")
	}
	switch key {
	case "name":
		if prefix, ok := strings.CutSuffix(value, "*"); ok {
			return p.once(&p.q.NamePrefix, prefix, key, keyAt)
		}
		return p.once(&p.q.Name, value, key, keyAt)
	case "parent":
		return p.once(&p.q.Parent, value, key, keyAt)
	case "tag":
		p.q.Tags = append(p.q.Tags, value)
	case "status":
		if p.q.Status != nil {
			return p.fail(keyAt, "status is given twice: put the statuses behind one, parted by commas")
		}
		for s := range strings.SplitSeq(value, ",") {
			status, err := ParseStatus(s)
			if err != nil {
				return p.fail(valueAt, strings.TrimPrefix(err.Error(), ErrInvalid.Error()+": "))
			}
			p.q.Status = append(p.q.Status, status)
		}
	case "sort":
		for f := range strings.SplitSeq(value, ",") {
			field, down := strings.CutPrefix(f, "-")
			s := Sort{Field: field, Down: down}
			if !slices.Contains(sortFields, field) && !knownField(field) {
				return p.fail(valueAt, "can't sort by "+strconv.Quote(field))
			}
			p.q.Sort = append(p.q.Sort, s)
		}
	case "limit":
		n, err := strconv.Atoi(value)
		if err != nil || n <= 0 {
			return p.fail(valueAt, "the limit is a positive whole number")
		}
		p.q.Limit = n
	}
	return nil
}

func (p *queryParser) once(field *string, value, key string, at int) error {
	if *field != "" {
		return p.fail(at, key+" is given twice")
	}
	*field = value
	return nil
}

// registered reads a bound on the time: a date (its first moment, UTC), or
// RFC 3339.
func (p *queryParser) registered(op Op, value string, opAt, valueAt int) error {
	t, err := time.Parse(time.DateOnly, value)
	width := 24 * time.Hour // a date is all of its day
	if err != nil {
		width = time.Microsecond
		if t, err = time.Parse(time.RFC3339Nano, value); err != nil {
			return p.fail(valueAt, strconv.Quote(value)+" is neither a date such as 2026-01-31 nor a time such as 2026-01-31T12:00:00Z")
		}
	}
	from, to := t.UnixMicro(), t.Add(width).UnixMicro()
	if from <= 0 { // 0 would be no bound at all
		return p.fail(valueAt, strconv.Quote(value)+" is not after 1970-01-01T00:00:00Z")
	}
	switch op {
	case GreaterOrEqual:
		p.since(from)
	case Greater:
		p.since(to)
	case Less:
		p.until(from)
	case LessOrEqual:
		p.until(to)
	case Equal:
		p.since(from)
		p.until(to)
	default:
		return p.fail(opAt, "registered takes = < <= > >=")
	}
	return nil
}

// since and until narrow the time, so that all words about it hold.
func (p *queryParser) since(t int64) { p.q.From = max(p.q.From, t) }

func (p *queryParser) until(t int64) {
	if p.q.To == 0 || t < p.q.To {
		p.q.To = t
	}
}
