package openapi

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// schemas makes JSON schemas of Go types, as encoding/json writes their values.
type schemas struct {
	strict bool
	words  words
	all    object // by name, for $ref
}

var (
	timeType = reflect.TypeFor[time.Time]()
	textType = reflect.TypeFor[encoding.TextMarshaler]()
)

func (s *schemas) of(v any) object { return s.typed(reflect.TypeOf(v)) }

func (s *schemas) typed(t reflect.Type) object {
	switch {
	case t == timeType:
		return object{"type": "string", "format": "date-time"}
	case t.Implements(textType):
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.typed(t.Elem())
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Slice, reflect.Array:
		return object{"type": "array", "items": s.typed(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.typed(t.Elem())}
	case reflect.Interface:
		return object{}
	case reflect.Struct:
		return s.named(t)
	}
	panic(fmt.Sprintf("openapi: a %s has no JSON", t))
}

// named describes a struct once, and refers to it.
func (s *schemas) named(t reflect.Type) object {
	if t.NumField() == 0 {
		return object{"type": "object", "maxProperties": 0}
	}
	if s.all[t.Name()] == nil {
		x := object{"type": "object"}
		s.all[t.Name()] = x // before its fields, which may hold it
		if text := s.words[t.Name()]; text != "" {
			x["description"] = text
		}
		properties, required := object{}, []string{}
		s.fields(t, properties, &required)
		x["properties"] = properties
		if len(required) > 0 {
			x["required"] = required
		}
		if s.strict {
			x["additionalProperties"] = false
		}
	}
	return object{"$ref": "#/components/schemas/" + t.Name()}
}

// fields adds a struct's fields, those of embedded ones among them.
func (s *schemas) fields(t reflect.Type, properties object, required *[]string) {
	for f := range t.Fields() {
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		if f.Anonymous && name == "" {
			s.fields(f.Type, properties, required)
			continue
		}
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		x := s.typed(f.Type)
		optional := strings.Contains(options, "omit")
		if f.Type.Kind() == reflect.Pointer && !optional {
			x = object{"anyOf": []object{x, {"type": "null"}}}
		}
		if text := s.words[t.Name()+"."+f.Name]; text != "" {
			x["description"] = text
		}
		if !optional {
			*required = append(*required, name)
		}
		properties[name] = x
	}
}
