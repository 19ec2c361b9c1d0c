package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSet(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set  []string
		want string
	}{
		"types":           {[]string{"a=1,b=true,c=text,d=null,e=,f=1.5,g=010,h=-7"}, `{"a":1,"b":true,"c":"text","d":null,"e":"","f":"1.5","g":"010","h":-7}`},
		"nested":          {[]string{"a.b.c=1", "a.b.d=2"}, `{"a":{"b":{"c":1,"d":2}},"base":{"x":1}}`},
		"over base":       {[]string{"base.x=2,base.y=3"}, `{"base":{"x":2,"y":3}}`},
		"index":           {[]string{"a[1].b=1,a[0]=x"}, `{"a":["x",{"b":1}]}`},
		"index of index":  {[]string{"a[0][1]=x"}, `{"a":[[null,"x"]]}`},
		"list":            {[]string{"a={x, 1,true},b={}"}, `{"a":["x",1,true],"b":[]}`},
		"escapes":         {[]string{`a\.b=x\,y,c=k\=v`}, `{"a.b":"x,y","c":"k=v"}`},
		"equals in value": {[]string{"a=b=c"}, `{"a":"b=c"}`},
		"later wins":      {[]string{"a=1", "a=2"}, `{"a":2}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := values{set: c.set}.build(map[string]any{"base": map[string]any{"x": 1}})
			require.NoError(t, err)
			if !strings.Contains(c.want, "base") {
				delete(got, "base")
			}
			text, err := json.Marshal(got)
			require.NoError(t, err)
			require.JSONEq(t, c.want, string(text))
		})
	}
}

func TestSetRefuses(t *testing.T) {
	t.Parallel()
	for set, says := range map[string]string{
		"a": "key=value", "=1": "key=value", "a..b=1": "empty part", "[0]=1": "empty part", "a[=1": "without its ]", "a[x]=1": "index",
		"a[-1]=1": "index", "a[999999999]=1": "index", "a[0]b=1": "without a dot", "a={x": "has no }", "base.x.y=1": "not an object", "base[0]=1": "not a list",
	} {
		_, err := values{set: []string{set}}.build(map[string]any{"base": map[string]any{"x": 1}})
		require.ErrorContains(t, err, says, set)
		var usage *usageError
		require.ErrorAs(t, err, &usage)
	}
	_, err := values{json: []string{`a={"b":`}}.build(nil)
	require.ErrorContains(t, err, "not JSON")
}

// What was there before must not change, since the file's values are used
// again; and whatever is accepted can be encoded.
func FuzzSet(f *testing.F) {
	for _, s := range []string{"a=1", "a.b[0].c={x,y}", `a\.b=\,`, "base.x=3", "base.l[3]=z", "a[1024]=x", "{=}", "a={{b},c}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		base := map[string]any{"base": map[string]any{"x": 1, "l": []any{"a"}}}
		got, err := values{set: []string{s}}.build(base)
		require.Equal(t, map[string]any{"base": map[string]any{"x": 1, "l": []any{"a"}}}, base)
		if err != nil {
			return
		}
		_, err = json.Marshal(got)
		require.NoError(t, err)
	})
}
